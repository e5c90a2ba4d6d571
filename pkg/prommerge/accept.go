package prommerge

import (
	"mime"
	"strconv"
	"strings"
)

const (
	typeText        = "text/plain"
	typeOpenMetrics = "application/openmetrics-text"
	typeProto       = "application/vnd.google.protobuf"
	protoName       = "io.prometheus.client.MetricFamily"
)

// format is a page format with its version.
type format struct {
	wire    wire
	version string // of the text formats
	esc     escaping
}

var text004 = format{wire: wireText, version: "0.0.4"}

// contentType returns the header for a page of f.
func (f format) contentType() string {
	switch f.wire {
	case wireProto:
		return typeProto + "; proto=" + protoName + "; encoding=delimited" + f.escapingParam("; ")
	case wireOpenMetrics:
		return typeOpenMetrics + "; version=" + f.version + "; charset=utf-8" + f.escapingParam("; ")
	}
	return typeText + "; version=" + f.version + "; charset=utf-8" + f.escapingParam("; ")
}

// escapingParam names the escaping, for formats that know of it.
func (f format) escapingParam(sep string) string {
	if f.version == "0.0.4" || f.version == "0.0.1" || f.wire == wireProto && f.esc == escapeUnderscores {
		return ""
	}
	return sep + "escaping=" + escapingNames[f.esc]
}

// asText returns the text format for a page that cannot go out as f. A scraper that takes UTF-8 names in one format
// takes them in the other.
func (f format) asText() format {
	if f.wire == wireText {
		return f
	}
	if f.esc == allowUTF8 {
		return format{wire: wireText, version: "1.0.0", esc: allowUTF8}
	}
	return format{wire: wireText, version: "0.0.4", esc: f.esc}
}

// accept returns the Accept header for targets: the family of f first, the plain text format last.
func (f format) accept() string {
	esc := ";escaping=" + escapingNames[f.esc]
	text := typeText + ";version=1.0.0" + esc + ";q=0.3," + typeText + ";version=0.0.4;q=0.2,*/*;q=0.1"
	switch f.wire {
	case wireProto:
		return typeProto + ";proto=" + protoName + ";encoding=delimited" + esc + ";q=0.9," + text
	case wireOpenMetrics:
		return typeOpenMetrics + ";version=1.0.0" + esc + ";q=0.8," + typeOpenMetrics + ";version=0.0.1;q=0.7," + text
	}
	return text
}

// negotiate picks the format with the highest q of an Accept header, the first one of equals. What it does not
// know counts for nothing; text 0.0.4 is always possible.
func negotiate(accept string) format {
	best, bestQ := text004, 0.0
	for r := range strings.SplitSeq(accept, ",") {
		if f, q, ok := mediaRange(r); ok && q > bestQ {
			best, bestQ = f, q
		}
	}
	return best
}

// mediaRange reads one element of an Accept header.
func mediaRange(r string) (f format, q float64, ok bool) {
	name, params, err := mime.ParseMediaType(r)
	if err != nil {
		return f, 0, false
	}
	q = quality(params["q"])
	f = text004
	version := params["version"]
	switch name {
	case typeProto:
		f.wire, f.version = wireProto, ""
		ok = params["proto"] == protoName && params["encoding"] == "delimited"
	case typeOpenMetrics:
		f.wire, f.version = wireOpenMetrics, "0.0.1"
		ok = f.ofVersion(version)
	case typeText:
		ok = f.ofVersion(version)
	case "text/*", "*/*":
		ok = true
	}
	if e, known := parseEscaping(params["escaping"]); known && f.version != "0.0.4" && f.version != "0.0.1" {
		f.esc = e
	}
	return f, q, ok
}

// ofVersion makes f the version that a scraper names, if there is such a one. f has the older version.
func (f *format) ofVersion(v string) bool {
	if v == "1.0.0" {
		f.version = v
	}
	return v == "" || v == f.version
}

// quality reads a q parameter; nonsense is 0, which refuses.
func quality(s string) float64 {
	if s == "" {
		return 1
	}
	q, err := strconv.ParseFloat(s, 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}

// commonTypes are the Content-Types of nearly all targets, as client_golang writes them.
var commonTypes = func() map[string]wire {
	m := map[string]wire{"": wireText, typeText: wireText, typeText + "; version=0.0.4": wireText}
	for _, f := range []format{{wire: wireText, version: "0.0.4"}, {wire: wireText, version: "1.0.0"},
		{wire: wireOpenMetrics, version: "0.0.1"}, {wire: wireOpenMetrics, version: "1.0.0"}, {wire: wireProto}} {
		base, _, _ := strings.Cut(f.contentType(), "; escaping=")
		m[base] = f.wire
		for _, e := range escapingNames {
			m[base+"; escaping="+e] = f.wire
		}
	}
	return m
}()

// wireOf says which syntax a Content-Type announces. Without one a page is taken for text, as before Prometheus 3.
func wireOf(contentType string) (wire, bool) {
	if w, ok := commonTypes[contentType]; ok {
		return w, true
	}
	name, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, false
	}
	switch name {
	case typeText:
		return wireText, true
	case typeOpenMetrics:
		return wireOpenMetrics, params["version"] != "2.0.0"
	case typeProto:
		enc := params["encoding"]
		return wireProto, params["proto"] == protoName && (enc == "delimited" || enc == "")
	}
	return 0, false
}
