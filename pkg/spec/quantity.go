package spec

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
)

var errSize = errors.New("not a size")

// parseSize returns the bytes of a size: a decimal number with a suffix of
// Kubernetes (k, M, G, T, P, E; Ki, Mi, Gi, Ti, Pi, Ei; m; an exponent), which
// may end in B, in the case of Kubernetes or not where that is unambiguous.
// Fractions of a byte are rounded up; a size below one byte is an error unless
// it is 0.
func parseSize(s string) (int64, error) {
	s = strings.TrimSpace(s)
	end := strings.LastIndexAny(s, "0123456789.") + 1
	digits, suffix := s[:end], s[end:]
	unit, ok := unitOf(suffix)
	if !ok || len(digits) > 40 || digits == "" || strings.ContainsAny(digits, "/_xXpP-") {
		return 0, errSize
	}
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		if e, err := strconv.Atoi(digits[i+1:]); err != nil || e > 18 || suffix != "" {
			return 0, errSize
		}
	}
	n, ok := new(big.Rat).SetString(digits)
	if !ok {
		return 0, errSize
	}
	n.Mul(n, unit)
	if n.Sign() != 0 && n.Cmp(big.NewRat(1, 1)) < 0 {
		return 0, errSize
	}
	up := new(big.Int).Add(n.Num(), new(big.Int).Sub(n.Denom(), big.NewInt(1)))
	up.Quo(up, n.Denom())
	if !up.IsInt64() || up.Int64() > math.MaxInt64/2 {
		return 0, errSize
	}
	return up.Int64(), nil
}

func unitOf(suffix string) (*big.Rat, bool) {
	if len(suffix) > 1 || suffix == "B" {
		suffix = strings.TrimSuffix(suffix, "B")
	}
	if suffix == "m" {
		return big.NewRat(1, 1000), true
	}
	if suffix == "" {
		return big.NewRat(1, 1), true
	}
	exp := strings.Index("kmgtpe", strings.ToLower(suffix[:1])) + 1
	if exp == 0 || len(suffix) > 2 {
		return nil, false
	}
	base := int64(1000)
	if len(suffix) == 2 {
		if suffix[1] != 'i' {
			return nil, false
		}
		base = 1024
	}
	unit := new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(exp)), nil)
	return new(big.Rat).SetInt(unit), true
}

// showSize writes 256KiB for 262144.
func showSize(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
