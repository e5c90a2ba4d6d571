package collect

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"
)

func FuzzAStreamCountsWhatIsGood(f *testing.F) {
	for _, s := range hostile(900) {
		if len(s) < 1000 {
			f.Add([]byte(s), uint16(7))
			f.Add([]byte(s), uint16(5000))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint16) {
		if bytes.Contains(in, []byte("good")) || bytes.Contains(in, []byte(`\u`)) {
			t.Skip("may be the same metric")
		}
		reg := NewRegistry(Limits{Series: 1000})
		s := NewServer(Config{Registry: reg, MessageBytes: 1024, Idle: time.Minute, Log: slog.New(slog.DiscardHandler)})
		st := newStreamer(&listener{name: "unix"}, s)
		rest := io.Reader(bytes.NewReader([]byte(goodEvent + "\n" + string(in) + "\n" + goodEvent)))
		for {
			room := st.room()
			if len(room) == 0 {
				t.Fatal("no room")
			}
			n, err := rest.Read(room[:min(len(room), int(step)+1)])
			st.read(n, err != nil)
			if err != nil {
				break
			}
		}
		if got := value(parsePage(t, reg.page(t)), "good"); got != 2 {
			t.Fatalf("%v of 2 good ones are counted around %q in steps of %d", got, in, step)
		}
	})
}
