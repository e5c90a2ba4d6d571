package sink

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// Whole frames are found whatever lies before, between and after them, the reader ends, and what it
// skips adds up.
func FuzzReplay(f *testing.F) {
	one, _ := appendFrame(nil, &Record{Time: time.Unix(1, 0), Key: []byte("k"), Body: []byte("first")})
	two, _ := appendFrame(nil, &Record{Time: time.Unix(2, 0), ID: []byte("id"), Body: []byte("second")})
	f.Add([]byte(segmentMagic), []byte{}, []byte{}, 64)
	f.Add([]byte(segmentMagic), one[:11], one[:20], 1)
	f.Add([]byte("pwsp"), bytes.Repeat(one[:4], 9), make([]byte, 40), 30)
	f.Add([]byte{}, append(slices.Clone(one[:4]), 0xff, 0xff, 0x0f, 0, 1, 2, 3, 4), one[1:], 1<<20)
	f.Fuzz(func(t *testing.T, a, b, c []byte, size int) {
		if size < 1 || size > 1<<20 {
			size = 1
		}
		dir := t.TempDir()
		s := &spool{dir: dir}
		file := bytes.Join([][]byte{a, one, b, two, c}, nil)
		if err := os.WriteFile(s.path(1), file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(dir, 1<<30, 1<<20, true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		bodies, used := readAll(t, s, size, len(file))
		if !slices.Contains(bodies, "first") || !slices.Contains(bodies, "second") {
			t.Fatalf("found %q", bodies)
		}
		if used != len(file) && used != len(file)-len(segmentMagic) {
			t.Fatalf("records and skipped bytes are %d of %d", used, len(file))
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
			t.Fatalf("left %v, %v: want lock and cursor", left, err)
		}
	})
}

// readAll reads and commits until nothing is left, and counts the bytes of records and skipped ones.
func readAll(t *testing.T, s *spool, size, most int) (bodies []string, used int) {
	var buf []byte
	for rounds := 0; s.pending() > 0; rounds++ {
		if rounds > most {
			t.Fatal("reader makes no progress")
		}
		p, err := s.read(&buf, nil, size, 1+size%3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.records {
			bodies = append(bodies, string(r.Body))
			used += headerSize + fixedSize + len(r.Key) + len(r.ID) + len(r.Body)
		}
		used += p.skipped
		if err := s.commit(p.end, len(p.records)); err != nil {
			t.Fatal(err)
		}
	}
	return bodies, used
}

func FuzzFrame(f *testing.F) {
	f.Add(int64(1), []byte("key"), []byte("id"), []byte("{}"))
	f.Fuzz(func(t *testing.T, ns int64, key, id, body []byte) {
		frame, ok := appendFrame([]byte("before"), &Record{Time: time.Unix(0, ns), Key: key, ID: id, Body: body})
		if fits := len(key) <= maxShort && len(id) <= maxShort && fixedSize+len(key)+len(id)+len(body) <= maxPayload; ok != fits {
			t.Fatalf("made: %v, fits: %v", ok, fits)
		}
		if !ok {
			return
		}
		frame = frame[len("before"):]
		r, n, state := parseFrame(append(slices.Clone(frame), "after"...))
		if state != whole || n != len(frame) || r.Time.UnixNano() != ns ||
			!bytes.Equal(r.Key, key) || !bytes.Equal(r.ID, id) || !bytes.Equal(r.Body, body) {
			t.Fatalf("%d %d %+v", state, n, r)
		}
		if _, _, state := parseFrame(frame[:len(frame)-1]); state != partial {
			t.Fatalf("without its last byte: %d", state)
		}
	})
}

// encode is encoding/json without its HTML escapes.
func encode(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func FuzzStringLikeEncodingJSON(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\b\f\n\r\t\x00\x1f\x7f", "<&>", "ü\u2028\u2029\ufffd", "\xff\xc3", "a\xe2\x80", "\xed\xa0\x80", "𝄞"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := encode(t, s)
		if got := string(AppendString(nil, s)); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
		if got := string(AppendString([]byte("x"), []byte(s))); got != "x"+want {
			t.Errorf("%q as bytes is %s, want %s", s, got, want)
		}
	})
}

func FuzzEventLikeEncodingJSON(f *testing.F) {
	f.Add("n", "k", "v", "help", "index", "id", 1.5, int64(1))
	f.Add("\"", "", "\xff", "", "", "", 1e-7, int64(-1))
	f.Add("n", "k", "v", "", "", "", 1e21, int64(1e18))
	f.Add("n", "k", "v", "", "", "", math.Inf(1), int64(0))
	f.Fuzz(func(t *testing.T, name, key, value, help, index, id string, number float64, ns int64) {
		at := time.Unix(0, ns)
		m := datagram.Message{
			Op: datagram.Event, Name: name, Labels: []datagram.Label{{Name: key, Value: value}},
			Value: number, Help: help, Index: index, ID: id,
		}
		type event struct {
			Name   string            `json:"name"`
			Op     string            `json:"op"`
			Value  *float64          `json:"value"`
			Labels map[string]string `json:"labels"`
			Help   string            `json:"help,omitempty"`
			Index  string            `json:"index,omitempty"`
			ID     string            `json:"id,omitempty"`
			Time   time.Time         `json:"timestamp"`
		}
		want := event{name, "event", &number, map[string]string{key: value}, help, index, id, at.UTC()}
		if math.IsNaN(number) || math.IsInf(number, 0) {
			want.Value = nil
		}
		if got := string(AppendEvent(nil, &m, at)) + "}"; got != encode(t, want) {
			t.Errorf("got  %s\nwant %s", got, encode(t, want))
		}
	})
}
