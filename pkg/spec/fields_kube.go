package spec

import (
	"reflect"
	"strconv"
	"strings"
)

// localhost is what a probe without a host talks to: where Kubernetes takes
// the pod's address, its processes are here.
const localhost = "127.0.0.1"

var (
	port        = &kind{name: "port", form: `{"type":["integer","string"],"minimum":1,"maximum":65535}`, read: readPort}
	host        = &kind{name: "host", form: scalarForm, read: readText, text: (*decoder).host}
	urlPath     = &kind{name: "path", form: scalarForm, read: readText, text: (*decoder).urlPath}
	headerName  = &kind{name: "name", form: scalarForm, read: readText, text: (*decoder).headerName}
	headerValue = &kind{name: "string", form: scalarForm, read: readText, text: (*decoder).headerValue}
	probeExec   = &kind{name: "map", read: readProbeExec}
)

// probeKeys are what Kubernetes' three probes have in common.
var probeKeys = object{fields: []field{
	{key: "exec", doc: "A command that must exit 0.", kind: probeExec, in: &execKeys, kube: true},
	{key: "httpGet", doc: "A GET that must answer 200 to 399.", kind: block, in: &httpGetKeys, to: "HTTPGet", kube: true},
	{key: "tcpSocket", doc: "A port that must accept.", kind: block, in: &tcpSocketKeys, to: "TCPSocket", kube: true},
	{key: "grpc", doc: "A port that must serve grpc.health.v1.", kind: block, in: &grpcKeys, to: "GRPC", kube: true},
	{key: "initialDelaySeconds", doc: "Pause between the start and the first probe.", kind: seconds, to: "InitialDelay", kube: true, def: "0"},
	{key: "periodSeconds", doc: "Pause between two probes.", kind: seconds, low: second, to: "Period", zero: true, kube: true, def: "10"},
	{key: "timeoutSeconds", doc: "Of each probe.", kind: seconds, low: second, to: "Timeout", zero: true, kube: true, def: "1"},
}}

var (
	probeHandlers = []string{"exec", "httpGet", "tcpSocket", "grpc"}
	startupKeys   = object{name: "startupProbe", doc: probeDoc, base: &probeKeys, fields: endingProbe, one: probeHandlers, hints: probeHints}
	livenessKeys  = object{name: "livenessProbe", doc: probeDoc, base: &probeKeys, fields: endingProbe, one: probeHandlers, hints: probeHints}
	readinessKeys = object{name: "readinessProbe", doc: probeDoc, base: &probeKeys, fields: []field{
		{key: "successThreshold", doc: successDoc, kind: integer, low: 1, high: often, zero: true, kube: true, def: "1"},
		{key: "failureThreshold", doc: failureDoc, kind: integer, low: 1, high: often, zero: true, kube: true, def: "3"},
	}, one: probeHandlers, hints: probeHints}
)

// endingProbe are the other keys of a probe that can end its process.
var endingProbe = []field{
	{key: "successThreshold", doc: successDoc, kind: integer, low: 1, high: 1, zero: true, kube: true, def: "1"},
	{key: "failureThreshold", doc: failureDoc, kind: integer, low: 1, high: often, zero: true, kube: true, def: "3"},
	{key: "terminationGracePeriodSeconds", doc: "Instead of the process's, when this probe ends it.", kind: seconds, low: second, to: "TerminationGracePeriod", kube: true},
}

const (
	probeDoc   = "A probe of Kubernetes."
	successDoc = "So many successes in a row make it good; 1 for startup and liveness."
	failureDoc = "So many failures in a row make it bad."
	probeHints = "delay=initialDelaySeconds http=httpGet period=periodSeconds tcp=tcpSocket timeout=timeoutSeconds"
)

var execKeys = object{
	name: "execAction", doc: "A command, run without a shell.",
	fields: []field{{key: "command", doc: "Program and arguments.", kind: list, of: text, some: true, needed: true}},
}

// readProbeExec reads the exec of a probe, whose command Kubernetes expands; it
// does not expand that of a hook.
func readProbeExec(d *decoder, a *at, f *field, to reflect.Value) bool {
	ok := d.readMap(a, f.in, to)
	to.Addr().Interface().(*Exec).Expand = ExpandKubernetes
	return ok
}

var httpGetKeys = object{
	name: "httpGet", doc: "A GET.",
	fields: []field{
		{key: "port", doc: "Port, or the name of one in ports.", kind: port, needed: true},
		{key: "path", doc: "Path and query.", kind: urlPath, kube: true, def: "/"},
		{key: "scheme", doc: "HTTP or HTTPS; certificates are not verified.", kind: oneOf, names: []string{"http", "https"}, kube: true, def: "http"},
		{key: "host", doc: "Host.", kind: host, kube: true, def: localhost},
		{key: "httpHeaders", doc: "Headers.", kind: list, of: block, in: &headerKeys, to: "Headers", kube: true},
	},
}

var headerKeys = object{
	name: "header", doc: "A header.",
	fields: []field{
		{key: "name", doc: "Name.", kind: headerName, needed: true},
		{key: "value", doc: "Value.", kind: headerValue},
	},
}

var tcpSocketKeys = object{
	name: "tcpSocket", doc: "A port.",
	fields: []field{
		{key: "port", doc: "Port, or the name of one in ports.", kind: port, needed: true},
		{key: "host", doc: "Host.", kind: host, kube: true, def: localhost},
	},
}

var grpcKeys = object{
	name: "grpc", doc: "A port that serves grpc.health.v1.",
	fields: []field{
		{key: "port", doc: "Port.", kind: integer, low: 1, high: 65535, needed: true},
		{key: "service", doc: "Service to ask for.", kind: text, kube: true},
	},
}

// lifecycle is the block as it is written.
type lifecycle struct {
	Lifecycle
	StopSignal sig
}

var lifecycleKeys = object{
	name: "lifecycle", doc: "Hooks.",
	fields: []field{
		{key: "stopSignal", doc: "The same as stopSignal of the process.", kind: signal, kube: true},
		{key: "postStart", doc: "Runs right after the start.", kind: block, in: &handlerKeys, kube: true},
		{key: "preStop", doc: "Runs before the stop signal, within stopTimeout.", kind: block, in: &handlerKeys, kube: true},
	},
}

var handlerKeys = object{
	name: "handler", doc: "A hook.",
	fields: []field{
		{key: "exec", doc: "A command.", kind: block, in: &execKeys, kube: true},
		{key: "httpGet", doc: "A GET.", kind: block, in: &httpGetKeys, to: "HTTPGet", kube: true},
		{key: "tcpSocket", doc: "A port that must accept.", kind: block, in: &tcpSocketKeys, to: "TCPSocket", kube: true},
		{key: "sleep", doc: "A pause.", kind: block, in: &sleepKeys, kube: true},
	},
	one: []string{"exec", "httpGet", "tcpSocket", "sleep"},
}

var sleepKeys = object{
	name: "sleep", doc: "A pause.",
	fields: []field{{key: "seconds", doc: "Seconds.", kind: seconds, to: "Duration", needed: true}},
}

// readPort reads a number, or the name of one of the container's ports.
func readPort(d *decoder, a *at, _ *field, to reflect.Value) bool {
	s, ok := d.scalar(a, "a port")
	if !ok {
		return false
	}
	if n, ok := d.ports[s]; ok {
		to.SetInt(int64(n))
		return true
	}
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		d.errorf(a, "write the number", "%s is not the name of one of the ports", quote(s))
		return false
	}
	n, ok := d.integer(a)
	if ok && (n < 1 || n > 65535) {
		d.errorf(a, "", "is %d, wants a number from 1 to 65535", n)
		return false
	}
	if ok {
		to.SetInt(n)
	}
	return ok
}

// readPorts notes the named ports of a container; the rest of ports does
// nothing here, so what is odd about it is no error.
func (d *decoder) readPorts(a *at) {
	d.ports = map[string]int{}
	if a == nil {
		return
	}
	for _, port := range a.node.Content {
		name, number := "", ""
		for i := 0; i+1 < len(port.Content); i += 2 {
			switch port.Content[i].Value {
			case "name":
				name = port.Content[i+1].Value
			case "containerPort":
				number = port.Content[i+1].Value
			}
		}
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && n > 0 && name != "" {
			d.ports[name] = int(n)
		}
	}
}

func (d *decoder) host(a *at) (string, bool) {
	s, ok := d.scalar(a, "a host")
	if ok && s == "" {
		return localhost, true
	}
	if ok && (strings.ContainsAny(s, "/ @?#\t\r\n") || strings.Count(s, ":") == 1) {
		d.errorf(a, "write a name or an address without scheme and port", "is no host: %s", quote(s))
		return "", false
	}
	return strings.Trim(s, "[]"), ok
}

func (d *decoder) urlPath(a *at) (string, bool) {
	s, ok := d.scalar(a, "a path")
	if ok && strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		d.errorf(a, "write %20 for a space", "a path has no spaces or control characters")
		return "", false
	}
	if ok && !strings.HasPrefix(s, "/") {
		s = "/" + s
	}
	return s, ok
}

func (d *decoder) headerName(a *at) (string, bool) {
	s, ok := d.scalar(a, "the name of a header")
	if ok && (s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r > 0x7e || !alnum(byte(r)) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})) {
		d.errorf(a, "", "is no name of a header: %s", quote(s))
		return "", false
	}
	return s, ok
}

func (d *decoder) headerValue(a *at) (string, bool) {
	s, ok := d.scalar(a, "a string")
	if ok && strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		d.errorf(a, "", "the value of a header holds no line breaks or control characters")
		return "", false
	}
	return s, ok
}
