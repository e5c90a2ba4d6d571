package spec

import (
	"strconv"
	"strings"
	"time"
)

// localhost is what a probe without a host talks to: where Kubernetes takes
// the pod's address, its processes are here.
const localhost = "127.0.0.1"

// probeObject is the table of one of Kubernetes' three probes.
func probeObject(name string) *object[Probe] {
	most := int64(1)
	if name == "readinessProbe" {
		most = 1_000_000
	}
	o := &object[Probe]{
		name: name, doc: "A probe of Kubernetes.",
		fields: []field[Probe]{
			kubeExec("A command that must exit 0.", ExpandKubernetes, func(p *Probe) **Exec { return &p.Exec }),
			block("httpGet", "A GET that must answer 200 to 399.", httpGetObject(), func(p *Probe) **HTTPGet { return &p.HTTPGet }),
			block("tcpSocket", "A port that must accept.", tcpSocketObject(), func(p *Probe) **TCPSocket { return &p.TCPSocket }),
			block("grpc", "A port that must serve grpc.health.v1.", grpcObject(), func(p *Probe) **GRPC { return &p.GRPC }),
			keyOr("initialDelaySeconds", "Pause between the start and the first probe.", seconds(0), 0, func(p *Probe) *time.Duration { return &p.InitialDelay }),
			keyOr("periodSeconds", "Pause between two probes.", orDefault(seconds(time.Second), 10*time.Second), 10*time.Second, func(p *Probe) *time.Duration { return &p.Period }),
			keyOr("timeoutSeconds", "Of each probe.", orDefault(seconds(time.Second), time.Second), time.Second, func(p *Probe) *time.Duration { return &p.Timeout }),
			keyOr("successThreshold", "So many successes in a row make it good; 1 for startup and liveness.", orDefault(integer(1, most), 1), 1, func(p *Probe) *int { return &p.SuccessThreshold }),
			keyOr("failureThreshold", "So many failures in a row make it bad.", orDefault(integer(1, 1_000_000), 3), 3, func(p *Probe) *int { return &p.FailureThreshold }),
		},
		one: []string{"exec", "httpGet", "tcpSocket", "grpc"},
	}
	if name != "readinessProbe" {
		o.fields = append(o.fields, key("terminationGracePeriodSeconds", "Instead of the process's, when this probe ends it.", optional(seconds(time.Second)), func(p *Probe) **time.Duration { return &p.TerminationGracePeriod }))
	}
	for i := range o.fields {
		o.fields[i].kube = true
	}
	o.hints = map[string]string{"http": "httpGet", "tcp": "tcpSocket", "delay": "initialDelaySeconds", "period": "periodSeconds", "timeout": "timeoutSeconds"}
	return o
}

// kubeExec is the exec of a probe, whose command Kubernetes expands, or of a
// hook, whose command it does not.
func kubeExec[S any](doc string, e Expansion, to func(*S) **Exec) field[S] {
	o := &object[Exec]{name: "execAction", doc: "A command, run without a shell.", fields: []field[Exec]{
		key("command", "Program and arguments.", some(text()), func(x *Exec) *[]string { return &x.Command }).require(),
	}}
	f := block("exec", doc, o, to)
	read := f.read
	f.read = func(d *decoder, a *at, s *S) {
		if read(d, a, s); *to(s) != nil {
			(*to(s)).Expand = e
		}
	}
	return f
}

func httpGetObject() *object[HTTPGet] {
	header := &object[Header]{name: "header", doc: "A header.", fields: []field[Header]{
		key("name", "Name.", headerName(), func(h *Header) *string { return &h.Name }).require(),
		key("value", "Value.", headerValue(), func(h *Header) *string { return &h.Value }),
	}}
	headers := list(header.kind())
	return &object[HTTPGet]{
		name: "httpGet", doc: "A GET.",
		fields: []field[HTTPGet]{
			key("port", "Port, or the name of one in ports.", port(), func(h *HTTPGet) *int { return &h.Port }).require(),
			keyOr("path", "Path and query.", urlPath(), "/", func(h *HTTPGet) *string { return &h.Path }).asKube(),
			keyOr("scheme", "HTTP or HTTPS; certificates are not verified.", oneOf("http", "https"), "http", func(h *HTTPGet) *string { return &h.Scheme }).asKube(),
			keyOr("host", "Host.", host(), localhost, func(h *HTTPGet) *string { return &h.Host }).asKube(),
			key("httpHeaders", "Headers.", kind[[]Header]{name: "list of maps", form: headers.form, rows: headers.rows, read: func(d *decoder, a *at) ([]Header, bool) {
				ptrs, ok := headers.read(d, a)
				hs := make([]Header, len(ptrs))
				for i, p := range ptrs {
					hs[i] = *p
				}
				return hs, ok
			}}, func(h *HTTPGet) *[]Header { return &h.Headers }).asKube(),
		},
	}
}

func tcpSocketObject() *object[TCPSocket] {
	return &object[TCPSocket]{name: "tcpSocket", doc: "A port.", fields: []field[TCPSocket]{
		key("port", "Port, or the name of one in ports.", port(), func(t *TCPSocket) *int { return &t.Port }).require(),
		keyOr("host", "Host.", host(), localhost, func(t *TCPSocket) *string { return &t.Host }).asKube(),
	}}
}

func grpcObject() *object[GRPC] {
	return &object[GRPC]{name: "grpc", doc: "A port that serves grpc.health.v1.", fields: []field[GRPC]{
		key("port", "Port.", integer(1, 65535), func(g *GRPC) *int { return &g.Port }).require(),
		key("service", "Service to ask for.", text(), func(g *GRPC) *string { return &g.Service }).asKube(),
	}}
}

// lifecycle is the block as it is written.
type lifecycle struct {
	Lifecycle
	stopSignal sig
}

func lifecycleObject() *object[lifecycle] {
	handler := &object[Handler]{
		name: "handler", doc: "A hook.",
		fields: []field[Handler]{
			kubeExec("A command.", ExpandNone, func(h *Handler) **Exec { return &h.Exec }).asKube(),
			block("httpGet", "A GET.", httpGetObject(), func(h *Handler) **HTTPGet { return &h.HTTPGet }).asKube(),
			block("tcpSocket", "A port that must accept.", tcpSocketObject(), func(h *Handler) **TCPSocket { return &h.TCPSocket }).asKube(),
			block("sleep", "A pause.", &object[Sleep]{name: "sleep", doc: "A pause.", fields: []field[Sleep]{
				key("seconds", "Seconds.", seconds(0), func(s *Sleep) *time.Duration { return &s.Duration }).require(),
			}}, func(h *Handler) **Sleep { return &h.Sleep }).asKube(),
		},
		one: []string{"exec", "httpGet", "tcpSocket", "sleep"},
	}
	return &object[lifecycle]{name: "lifecycle", doc: "Hooks.", fields: []field[lifecycle]{
		key("stopSignal", "The same as stopSignal of the process.", signal(), func(l *lifecycle) *sig { return &l.stopSignal }).asKube(),
		block("postStart", "Runs right after the start.", handler, func(l *lifecycle) **Handler { return &l.PostStart }).asKube(),
		block("preStop", "Runs before the stop signal, within stopTimeout.", handler, func(l *lifecycle) **Handler { return &l.PreStop }).asKube(),
	}}
}

// port is a number, or the name of one of the container's ports.
func port() kind[int] {
	f := form{"type": []string{"integer", "string"}, "minimum": 1, "maximum": 65535}
	return kind[int]{name: "port", form: formOf(f), read: func(d *decoder, a *at) (int, bool) {
		s, ok := d.scalar(a, "a port")
		if !ok {
			return 0, false
		}
		if n, ok := d.ports[s]; ok {
			return n, true
		}
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			n, ok := d.integer(a)
			if ok && (n < 1 || n > 65535) {
				d.errorf(a, "", "is %d, wants a number from 1 to 65535", n)
			}
			return int(n), ok
		}
		d.errorf(a, "write the number", "%s is not the name of one of the ports", quote(s))
		return 0, false
	}}
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

func host() kind[string] {
	return kind[string]{name: "host", form: scalarForm, read: func(d *decoder, a *at) (string, bool) {
		s, ok := d.scalar(a, "a host")
		if ok && s == "" {
			return localhost, true
		}
		if ok && (strings.ContainsAny(s, "/ @?#\t\r\n") || strings.Count(s, ":") == 1) {
			d.errorf(a, "write a name or an address without scheme and port", "is no host: %s", quote(s))
			return "", false
		}
		return strings.Trim(s, "[]"), ok
	}}
}

func urlPath() kind[string] {
	return kind[string]{name: "path", form: scalarForm, read: func(d *decoder, a *at) (string, bool) {
		s, ok := d.scalar(a, "a path")
		if ok && strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			d.errorf(a, "write %20 for a space", "a path has no spaces or control characters")
			return "", false
		}
		if ok && !strings.HasPrefix(s, "/") {
			s = "/" + s
		}
		return s, ok
	}}
}

func headerName() kind[string] {
	return kind[string]{name: "name", form: scalarForm, read: func(d *decoder, a *at) (string, bool) {
		s, ok := d.scalar(a, "the name of a header")
		if ok && (s == "" || strings.ContainsFunc(s, func(r rune) bool {
			return r > 0x7e || !alnum(byte(r)) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
		})) {
			d.errorf(a, "", "is no name of a header: %s", quote(s))
			return "", false
		}
		return s, ok
	}}
}

func headerValue() kind[string] {
	return kind[string]{name: "string", form: scalarForm, read: func(d *decoder, a *at) (string, bool) {
		s, ok := d.scalar(a, "a string")
		if ok && strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			d.errorf(a, "", "the value of a header holds no line breaks or control characters")
			return "", false
		}
		return s, ok
	}}
}
