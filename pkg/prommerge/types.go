package prommerge

// wire is the syntax of a page.
type wire uint8

const (
	wireText wire = iota
	wireOpenMetrics
	wireProto
)

// typ is the TYPE of a family, over all formats.
type typ uint8

const (
	typNone typ = iota // no TYPE seen
	typCounter
	typGauge
	typHistogram
	typSummary
	typUntyped // "unknown" in OpenMetrics
	typInfo
	typStateset
	typGaugeHistogram
	typCount
)

var typNames = [typCount]string{"", "counter", "gauge", "histogram", "summary", "untyped", "info", "stateset", "gaugehistogram"}

// name returns the word for t in a TYPE line of w.
func (t typ) name(w wire) string {
	if t == typUntyped && w == wireOpenMetrics {
		return "unknown"
	}
	return typNames[t]
}

// parseTyp returns the type that a TYPE line names.
func parseTyp(s []byte, w wire) (typ, bool) {
	for t := typCounter; t < typCount; t++ {
		if w != wireOpenMetrics && t > typUntyped {
			break
		}
		if string(s) == t.name(w) {
			return t, true
		}
	}
	return typNone, false
}

// What the names of a family's series may end with, beside the bare name.
var (
	textSuffixes = [typCount][]string{
		typHistogram: {"_bucket", "_sum", "_count"},
		typSummary:   {"_sum", "_count"},
	}
	omSuffixes = [typCount][]string{
		typCounter:        {"_total", "_created"},
		typHistogram:      {"_bucket", "_count", "_sum", "_created"},
		typSummary:        {"_sum", "_count", "_created"},
		typInfo:           {"_info"},
		typGaugeHistogram: {"_bucket", "_gcount", "_gsum"},
	}
)

func (t typ) suffixes(w wire) []string {
	if w == wireOpenMetrics {
		return omSuffixes[t]
	}
	return textSuffixes[t]
}

// belongs reports whether a series called name is part of the family fam of type t.
func belongs(name []byte, fam string, t typ, w wire) bool {
	if len(name) < len(fam) || string(name[:len(fam)]) != fam {
		return false
	}
	if len(name) == len(fam) {
		return true
	}
	for _, s := range t.suffixes(w) {
		if string(name[len(fam):]) == s {
			return true
		}
	}
	return false
}
