package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

func FuzzDecodeToken(f *testing.F) {
	for _, text := range []string{`{"token":7}`, `{"token":0}`, `{"token":07}`, `{"token":-7}`, `{"token":}`, `{"token":999999999999999999}`,
		`{"token":9223372036854775807}`, `{"token":9223372036854775808}`, ` {"token" : 7} `, `{"token":7}}`, `{"token":7,"x":1}`, `{"Token":7}`, `{"token":7e1}`, ``} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := decodeToken(text)
		var body struct {
			Token int64 `json:"token"`
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		want := d.Decode(&body)
		if len(text) == 0 {
			want = nil
		} else if want == nil {
			if _, end := d.Token(); !errors.Is(end, io.EOF) {
				want = errors.New("more than one value")
			}
		}
		if (err == nil) != (want == nil) || err == nil && got != body.Token {
			t.Errorf("%q: %d %v, want %d %v", text, got, err, body.Token, want)
		}
	})
}
