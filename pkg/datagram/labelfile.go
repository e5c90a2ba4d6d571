package datagram

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const maxLabelFile = 1 << 20

// ReadLabels reads the file in which Kubernetes' downward API has the labels or
// annotations of a pod: lines of key="value", the value with Go's escapes. It
// returns the labels by name, as they stand there. An error names the line.
func ReadLabels(r io.Reader) ([]Label, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxLabelFile))
	lines.Buffer(nil, maxLabelFile)
	var out []Label
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		key, quoted, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("line %d: write it as key=\"value\"", n)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil || quoted[0] != '"' {
			return nil, fmt.Errorf("line %d: the value of %s is no text in quotes", n, key)
		}
		out = append(out, Label{key, value})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(out, func(a, b Label) bool { return a.Name == b.Name }), nil
}
