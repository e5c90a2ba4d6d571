package prommerge_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parsed is a page as the checker sees it.
type parsed struct {
	samples []string          // name, labels in order of their names, value, timestamp and exemplar as they stand
	meta    map[string]string // "TYPE x" → "counter"
}

var (
	metaLine   = regexp.MustCompile(`^# (HELP|TYPE|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*|"(?:[^"\\]|\\.)+")(?: (.*))?$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)?(?:\{(.*?)\})? (\S+)(?: (-?[0-9.eE+]+))?(?: # (\{.*))?$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*|"(?:[^"\\]|\\.)+")(?:="((?:[^"\\]|\\["\\n])*)")?(?:,|$)`)
)

// checkPage is a strict parser that has nothing in common with the package: it knows only the canonical form, takes
// every line apart with regular expressions, and wants each family once and in one piece.
func checkPage(page string, om bool) (p parsed, err error) {
	p.meta = map[string]string{}
	if om {
		var ok bool
		if page, ok = strings.CutSuffix(page, "# EOF\n"); !ok || strings.Contains(page, "# EOF\n") {
			return p, fmt.Errorf("not exactly one # EOF")
		}
	}
	if page != "" && !strings.HasSuffix(page, "\n") || !utf8.ValidString(page) {
		return p, fmt.Errorf("no final newline, or not UTF-8")
	}
	done := map[string]bool{} // families that are over
	family, typ := "", ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		name, sample, err := p.line(line, om)
		if err != nil {
			return p, err
		}
		if sample != "" {
			p.samples = append(p.samples, sample)
		}
		if name != family && (sample == "" || !childOf(name, family, typ)) {
			if done[name] {
				return p, fmt.Errorf("family %s in two pieces: %q", name, line)
			}
			done[family] = true
			family = name
		}
		typ = p.meta["TYPE "+family]
	}
	slices.Sort(p.samples)
	return p, nil
}

// line takes one line apart; sample is empty for metadata.
func (p *parsed) line(line string, om bool) (name, sample string, err error) {
	m := metaLine.FindStringSubmatch(line)
	if m == nil {
		return checkSample(line, om)
	}
	name = strings.Trim(m[2], `"`)
	if _, twice := p.meta[m[1]+" "+name]; twice {
		return "", "", fmt.Errorf("second %s: %q", m[1], line)
	}
	p.meta[m[1]+" "+name] = m[3]
	return name, "", nil
}

func childOf(name, family, typ string) bool {
	suffix, ok := strings.CutPrefix(name, family+"_")
	return ok && typ != "" && slices.Contains(strings.Fields(map[string]string{
		"histogram": "bucket sum count created", "summary": "sum count created", "counter": "total created",
		"info": "info", "gaugehistogram": "bucket gcount gsum"}[typ]), suffix)
}

func checkSample(line string, om bool) (name, sample string, err error) {
	at := labelsEnd(line)
	m := sampleLine.FindStringSubmatch(line)
	if at > 0 { // a brace may stand within a value, where a regular expression stops too early
		open := strings.IndexByte(line, '{')
		if m = sampleLine.FindStringSubmatch(line[:open] + "{}" + line[at:]); m != nil {
			m[2] = line[open+1 : at-1]
		}
	}
	if m == nil {
		return "", "", fmt.Errorf("no sample: %q", line)
	}
	if _, err := strconv.ParseFloat(m[3], 64); err != nil {
		return "", "", fmt.Errorf("value: %q", line)
	}
	if !om && (strings.ContainsAny(m[4], "-.eE+") || m[5] != "") {
		return "", "", fmt.Errorf("timestamp or exemplar: %q", line)
	}
	name, labels, err := checkLabels(m[1], m[2], line)
	if err != nil || name == "" {
		return "", "", fmt.Errorf("no name, or %w", err)
	}
	return name, fmt.Sprintf("%s{%s} %s %s %s", name, strings.Join(labels, ","), m[3], m[4], m[5]), nil
}

// checkLabels returns the labels in order of their names, and the metric name, which may be among them.
func checkLabels(name, rest, line string) (string, []string, error) {
	var labels []string
	seen := map[string]bool{}
	for rest != "" {
		l := labelPair.FindStringSubmatch(rest)
		if l == nil {
			return "", nil, fmt.Errorf("labels: %q", line)
		}
		rest = rest[len(l[0]):]
		key := strings.Trim(l[1], `"`)
		if !strings.Contains(l[0], `=`) || strings.HasPrefix(l[1], `"`) && !strings.HasPrefix(l[0], l[1]+"=") {
			if name != "" {
				return "", nil, fmt.Errorf("two names: %q", line)
			}
			name = key
			continue
		}
		if seen[key] {
			return "", nil, fmt.Errorf("label twice: %q", line)
		}
		seen[key] = true
		labels = append(labels, key+"="+l[2])
	}
	slices.Sort(labels)
	return name, labels, nil
}

// labelsEnd returns the index after the brace that closes the labels of line, or 0.
func labelsEnd(line string) int {
	open := strings.IndexByte(line, '{')
	if open < 0 || strings.Contains(line[:open], " ") {
		return 0
	}
	quoted := false
	for i := open + 1; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted && line[i] == '}':
			return i + 1
		}
	}
	return 0
}

// with returns the samples that have the label process_name=name.
func (p parsed) with(name string) []string {
	var out []string
	for _, s := range p.samples {
		if strings.Contains(s, "process_name="+name+",") || strings.Contains(s, "process_name="+name+"}") {
			if !strings.HasPrefix(s, "prommerge_") {
				out = append(out, s)
			}
		}
	}
	return out
}
