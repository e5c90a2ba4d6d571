package main

import (
	"math/rand/v2"
	"strings"
)

// generator writes pages out of what pages are made of, right and wrong.
type generator struct{ *rand.Rand }

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

// rarely returns one of some strings in one of n cases, else usual.
func (g generator) rarely(n int, usual string, of ...string) string {
	if g.IntN(n) > 0 {
		return usual
	}
	return g.pick(of...)
}

func (g generator) metric() string {
	return g.pick("a", "b", "a_total", "a_bucket", "a_sum", "a_count", "a_created", "a_info", "b:c", "_x", "h", "h_bucket", "h_count", "le", "nan", "a_seconds")
}

func (g generator) quoted() string {
	return g.pick(`"a.b"`, `"a"`, `"h"`, `"h_bucket"`, `"é x"`, `"q\"z"`, `"b\\s"`, `"n\nl"`, `""`, `"u_total"`)
}

func (g generator) label() string {
	name := g.pick("a", "b", "le", "quantile", "process_name", "exported_process_name", "_", "x1", `"q.r"`, `"a"`, `"le"`)
	value := g.pick("", "x", "1", "1.0", "+Inf", `\\`, `\"`, `\n`, `\x`, "{}", ",", "}", "=", "é", "\u2028", " ", `a\\\"b`, "#", "# EOF")
	return name + g.blank() + "=" + g.blank() + `"` + value + `"`
}

func (g generator) value() string {
	return g.pick("1", "0", "-1", "+1", "1.5", "NaN", "nan", "+Inf", "-inf", "1e5", "1E+06", "-0", ".5", "5.", "infinity", "9223372036854775807",
		g.rarely(3, "2", "0x1p3", "1_000", "1e400", "1e-400", "--1", "", "1e", "x", "0x10", "00"))
}

func (g generator) timestamp() string {
	return g.pick("1", "0", "007", "1.5", "1700000000000", "1700000000.123", "1e3", "123456789012345678",
		g.rarely(3, "2", "-1", "+1", "-5.5", "99999999999999999999", "NaN", "Inf", "", "9223372036854775807", "9223372036854775808", "-0", "0x1"))
}

// blank is where none need be, gap where one must.
func (g generator) blank() string { return g.rarely(12, "", " ", "\t", "  ") }
func (g generator) gap() string   { return g.rarely(25, " ", "", "  ", "\t", " \t ") }

func (g generator) series(om bool) string {
	var b strings.Builder
	var items []string
	if g.IntN(8) > 0 {
		b.WriteString(g.metric() + g.blank())
	} else {
		items = append(items, g.quoted())
	}
	if len(items) > 0 || g.IntN(3) > 0 {
		for range g.IntN(4) {
			items = append(items, g.label())
		}
		if g.IntN(15) == 0 {
			g.Shuffle(len(items), func(i, k int) { items[i], items[k] = items[k], items[i] })
		}
		b.WriteString("{" + g.blank() + strings.Join(items, g.blank()+","+g.blank()) + g.rarely(10, "", ",", ",,", " ,") + g.blank() + "}")
	}
	b.WriteString(g.gap() + g.value())
	if g.IntN(3) == 0 {
		b.WriteString(g.gap() + g.timestamp())
	}
	if g.IntN(60) == 0 || om && g.IntN(4) == 0 {
		b.WriteString(g.rarely(20, " # ", " #", "# ", "  # ") + "{")
		for i := range g.IntN(3) {
			b.WriteString(strings.Repeat(",", min(i, 1)) + g.label())
		}
		b.WriteString(g.rarely(20, "}", ",}") + g.gap() + g.value())
		if g.IntN(2) == 0 {
			b.WriteString(g.gap() + g.timestamp())
		}
	}
	return b.String() + g.blank()
}

func (g generator) comment() string {
	name := g.metric()
	if g.IntN(8) == 0 {
		name = g.quoted()
	}
	switch g.IntN(8) {
	case 0, 1, 2:
		return "#" + g.gap() + "TYPE" + g.gap() + name + g.gap() + g.pick("counter", "gauge", "histogram", "summary", "info", "stateset", "gaugehistogram",
			g.rarely(3, "gauge", "unknown", "untyped", "Counter", "", "xx")) + g.blank()
	case 3, 4:
		return "#" + g.gap() + "HELP" + g.gap() + name + g.gap() + g.pick("", "text", `a \\ \n "b"`, "é", "  two ", `\`, `\"`)
	case 5:
		return "#" + g.gap() + "UNIT" + g.gap() + name + g.gap() + g.pick("", "seconds", "x", "total")
	case 6:
		return g.pick("#", "# ", "# x", "#TYPE a counter", "# HELP", "# TYPE", "# HELP ", "# TYPE a", "# EOF", "", " ", "\t", " # HELP a b", "#HELP a b")
	}
	return "# TYPE h histogram"
}

func (g generator) page(om bool) string {
	var lines []string
	for range 1 + g.IntN(5) {
		if g.IntN(3) == 0 {
			lines = append(lines, g.comment())
			continue
		}
		s := g.series(om)
		lines = append(lines, s)
		for g.IntN(3) == 0 {
			lines = append(lines, s)
		}
	}
	page := strings.Join(lines, "\n") + g.rarely(10, "\n", "")
	if om {
		page += g.rarely(10, "# EOF", "") + g.rarely(5, "\n", "")
	}
	return page
}
