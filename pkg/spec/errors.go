package spec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// maxProblems bounds what one load reports, so that a binary file that is
// taken for a config does not fill the terminal.
const maxProblems = 200

// Error is one thing that is wrong with a config, and where.
type Error struct {
	File   string // as given; CONFIG for the variable
	Line   int    // from 1; 0: the whole file
	Column int    // from 1, in characters
	Path   string // api.readiness.http.url; "" for the file itself
	Msg    string // what is wrong, with the value where it cannot be a secret
	Hint   string // the way out, or ""
}

// Error returns file:line:column: path: what is wrong — the way out.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(": " + e.Path)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" — " + e.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a config, sorted by position.
type Errors []*Error

// Error returns one line per error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single errors.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// sorted orders es by position, each position and message once.
func (es Errors) sorted() Errors {
	sort.SliceStable(es, func(i, j int) bool {
		a, b := es[i], es[j]
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) < 0
	})
	return slices.CompactFunc(es, func(a, b *Error) bool { return *a == *b })
}

// errBudget ends a load whose aliases multiply beyond reason.
var errBudget = errors.New("aliases expand to more than 200,000 values")

// quote shows a value in an error: short, on one line.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// didYouMean returns a hint that names the key of known nearest to got, or ""
// where none is near.
func didYouMean(got string, known []string) string {
	if best := nearest(got, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// nearest returns the name of known that got was probably meant to be.
func nearest(got string, known []string) string {
	if len(got) > 64 {
		return ""
	}
	plain := plainKey(got)
	best, least := "", max(1, len(plain)/3)+1
	for _, k := range known {
		name := plainKey(k)
		dist := distance(plain, name, least)
		if short := min(len(plain), len(name)); short >= 4 && plain[:short] == name[:short] {
			dist = min(dist, 1)
		}
		if dist < least {
			best, least = k, dist
		}
	}
	return best
}

// plainKey folds what people vary: case, and the separator of words.
func plainKey(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// distance counts the edits (swaps of neighbours are one) between a and b; it
// may stop counting at limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	var before, above, row [65]int
	if len(b) > 64 {
		return limit
	}
	for j := range len(b) + 1 {
		above[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, above[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
