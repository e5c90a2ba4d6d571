package prommerge

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"
)

// plainFloat returns the index after the number at b[j:], or 0 where a closer look is needed: numbers so long that
// they may overflow, other spellings of infinity, and what is no number. b must end with a newline.
func plainFloat(b []byte, j int) int {
	if c := b[j]; c == '-' || c == '+' {
		j++
	}
	if b[j] > '9' {
		return notFinite(b, j)
	}
	s := j
	j = digits(b, j)
	n := j - s
	if b[j] == '.' {
		s = j + 1
		j = digits(b, s)
		n += j - s
	}
	if n == 0 || n > 200 {
		return 0
	}
	if b[j]|0x20 == 'e' {
		return exponentEnd(b, j+1)
	}
	return j
}

// digits returns the index after the digits at b[j:], where b ends with something else.
func digits(b []byte, j int) int {
	for ; len(b)-j >= 8; j += 8 {
		w := le64(b[j:]) ^ 0x3030303030303030 // digits become 0 to 9
		w = (w&0x7f7f7f7f7f7f7f7f + 0x7676767676767676 | w) & 0x8080808080808080
		if w != 0 {
			return j + bits.TrailingZeros64(w)>>3
		}
	}
	for isDigit(b[j]) {
		j++
	}
	return j
}

// exponentEnd returns the index after an exponent of one or two digits, or 0.
func exponentEnd(b []byte, j int) int {
	if c := b[j]; c == '-' || c == '+' {
		j++
	}
	s := j
	j = digits(b, j)
	if j == s || j-s > 2 {
		return 0
	}
	return j
}

// notFinite returns the index after NaN or Inf at b[j:], or 0. A sign may stand before j.
func notFinite(b []byte, j int) int {
	if len(b)-j < 4 {
		return 0
	}
	switch string(b[j : j+3]) {
	case "NaN":
		if j == 0 || isBlank(b[j-1]) {
			return j + 3
		}
	case "Inf":
		return j + 3
	}
	return 0
}

// floatOK reports whether Prometheus reads v as a float: what strconv reads, without hexadecimal and underscores.
func floatOK(v []byte) bool {
	_, ok := parseFloat(v)
	return ok
}

func parseFloat(v []byte) (float64, bool) {
	if len(v) == 0 || bytes.ContainsAny(v, "pP_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil
}

// finiteOK is floatOK for timestamps of OpenMetrics, which must not be NaN or infinite.
func finiteOK(v []byte) bool {
	f, ok := parseFloat(v)
	return ok && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// millisOK reports whether v, all digits, is a timestamp that fits.
func millisOK(v []byte) bool {
	if len(v) <= 18 {
		return true
	}
	_, err := strconv.ParseInt(string(v), 10, 64)
	return err == nil
}
