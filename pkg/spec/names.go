package spec

import (
	"errors"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

const maxName = 128

// goodName says whether s can be a metric label, a part of a URL and an
// element of a comma-separated list without quoting.
func goodName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && (i == 0 || strings.IndexByte("_.-", c) < 0) {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// fixName returns the name nearest to s that is good, or "".
func fixName(s string) string {
	fixed := strings.Map(func(r rune) rune {
		if r < 0x80 && (alnum(byte(r)) || strings.ContainsRune("_.-", r)) {
			return r
		}
		return '-'
	}, s)
	fixed = strings.Trim(fixed[:min(len(fixed), maxName)], "-._")
	if !goodName(fixed) {
		return ""
	}
	return fixed
}

var processName = &kind{name: "name", form: `{"type":["string","number"],"pattern":"^[A-Za-z0-9][A-Za-z0-9_.-]*$","maxLength":128}`, read: readText, text: (*decoder).processName}

func (d *decoder) processName(a *at) (string, bool) {
	s, ok := d.scalar(a, "a name")
	switch {
	case !ok:
	case s == "":
		d.errorf(a, "", "is empty, wants a name")
	case len(s) > maxName:
		d.errorf(a, "", "%s has %d bytes, at most %d are allowed", quote(s), len(s), maxName)
	case !goodName(s):
		d.errorf(a, didYouMean(s, []string{fixName(s)}), "%s wants letters, digits and _.- only, a letter or digit first", quote(s))
	default:
		return s, true
	}
	return "", false
}

// reserved are the labels that log lines and merged series have already.
const reserved = " process_name name time level pid out msg le quantile "

var labels = &kind{
	name: "map of strings",
	form: `{"type":"object","propertyNames":{"pattern":"^[a-zA-Z_][a-zA-Z0-9_]*$"},"additionalProperties":` + scalarForm + `}`,
	read: readLabels,
}

// readLabels reads a map of label names and values.
func readLabels(d *decoder, a *at, _ *field, to reflect.Value) bool {
	if !d.members(a, "write name: value") {
		return false
	}
	all := make(map[string]string, len(a.pairs))
	for _, p := range a.pairs {
		m := a.member(p)
		d.checkLabel(m)
		if v, ok := d.scalar(m, "a string"); ok {
			all[p.name] = v
		}
	}
	to.Set(reflect.ValueOf(all))
	return true
}

func (d *decoder) checkLabel(m *at) {
	name := m.step
	fixed := strings.Map(func(r rune) rune {
		if r < 0x80 && (alnum(byte(r)) || r == '_') {
			return r
		}
		return '_'
	}, name)
	switch {
	case name == "" || len(name) > maxName:
		d.errorf(m.onKey(), "", "a label name has 1 to %d characters", maxName)
	case fixed != name:
		d.errorf(m.onKey(), "did you mean "+quote(fixed)+"?", "a label name has letters, digits and _ only")
	case name[0] >= '0' && name[0] <= '9':
		d.errorf(m.onKey(), "did you mean "+quote("_"+name)+"?", "a label name starts with a letter or _")
	case strings.HasPrefix(name, "__"):
		d.errorf(m.onKey(), "", "label names that start with __ belong to Prometheus")
	case strings.Contains(reserved, " "+name+" "):
		d.errorf(m.onKey(), "choose another name", "is a label that log lines or series have already")
	}
}

var webURL = &kind{name: "URL", form: `{"type":"string","pattern":"^[hH][tT][tT][pP][sS]?://"}`, read: readText, text: (*decoder).webURL}

// webURL reads an http or https URL. An error shows it without its user.
func (d *decoder) webURL(a *at) (string, bool) {
	s, ok := d.scalar(a, "a URL")
	if !ok {
		return "", false
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		d.errorf(a, `write "http://127.0.0.1:8080/path"`, "is not a URL: %s", urlFault(s, err))
	case !strings.Contains(s, "://"):
		d.errorf(a, "did you mean "+quote("http://"+hideUser(s))+"?", "%s has no scheme", quote(hideUser(s)))
	case u.Scheme != "http" && u.Scheme != "https":
		d.errorf(a, "", "%s wants http:// or https://", quote(hideUser(s)))
	case u.Hostname() == "":
		d.errorf(a, `write "http://127.0.0.1:8080/path"`, "%s has no host", quote(hideUser(s)))
	case u.Port() != "" && !goodPort(u.Port()):
		d.errorf(a, "", "port %s wants a number from 1 to 65535", quote(u.Port()))
	default:
		return s, true
	}
	return "", false
}

// urlFault is what url.Parse says, without what may be a password.
func urlFault(s string, err error) string {
	var e *url.Error
	if strings.Contains(s, "@") || !errors.As(err, &e) {
		return "the user and password have a character that must be %-encoded"
	}
	return e.Err.Error()
}

// hideUser returns a URL or socket without what may be a secret in it.
func hideUser(s string) string {
	s, query, _ := strings.Cut(s, "?")
	if query != "" {
		s += "?…"
	}
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s
	}
	scheme, _, found := strings.Cut(s[:i], "://")
	if !found {
		return "…" + s[i:]
	}
	return scheme + "://…" + s[i:]
}

func goodPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

var socket = &kind{name: "host:port", form: `{"type":"string","pattern":":[0-9]+$"}`, read: readText, text: (*decoder).socket}

// socket reads host:port; an empty host is this host.
func (d *decoder) socket(a *at) (string, bool) {
	s, ok := d.scalar(a, `a socket like "127.0.0.1:8080"`)
	if !ok {
		return "", false
	}
	i := strings.LastIndexByte(s, ':')
	host := s[:max(i, 0)]
	switch {
	case i < 0 && goodPort(s):
		d.errorf(a, "did you mean "+quote("127.0.0.1:"+s)+"?", "%s wants host:port", quote(s))
	case strings.Contains(s, "://"):
		d.errorf(a, "write host:port without a scheme", "%s is a URL", quote(hideUser(s)))
	case i < 0 || strings.HasSuffix(s, "]"):
		d.errorf(a, "write "+quote(s+":8080"), "%s has no port", quote(s))
	case strings.Contains(host, ":") && (host[0] != '[' || !strings.HasSuffix(host, "]")):
		d.errorf(a, "write "+quote("["+host+"]:"+s[i+1:]), "%s is an IPv6 address without brackets", quote(s))
	case !goodPort(s[i+1:]):
		d.errorf(a, "", "port %s wants a number from 1 to 65535", quote(s[i+1:]))
	default:
		return s, true
	}
	return "", false
}

var signal = &kind{name: "signal", form: `{"type":["string","integer"]}`, read: readSignal}

// readSignal reads a name with or without SIG, or a number.
func readSignal(d *decoder, a *at, _ *field, to reflect.Value) bool {
	s, ok := d.scalar(a, "a signal like SIGTERM")
	if !ok {
		return false
	}
	sig, ok := ParseSignal(s)
	if !ok {
		hint := didYouMean(s, signalNames())
		if hint == "" {
			hint = "write a name like SIGTERM or a number from 1 to 64"
		}
		d.errorf(a, hint, "is no signal: %s", quote(s))
		return false
	}
	to.SetInt(int64(sig))
	return true
}
