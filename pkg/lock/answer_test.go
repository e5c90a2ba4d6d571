package lock

import (
	"encoding/json"
	"testing"
)

// FuzzAppendRenewed compares what is written by hand with what the library of JSON writes.
func FuzzAppendRenewed(f *testing.F) {
	for _, key := range []string{"a/b", "", `"`, `\`, "<&>", "\u2028", "ключ", "\xff", "a\x7f"} {
		f.Add(key, int64(7), "ok", int64(10000))
		f.Add(key, int64(-7), "", int64(0))
	}
	f.Fuzz(func(t *testing.T, key string, token int64, status string, ttl int64) {
		if !plainText(status) {
			return // it is one of ours
		}
		r := renewedJSON{key, token, status, ttl}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendRenewed(nil, r); string(got) != string(want) {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
