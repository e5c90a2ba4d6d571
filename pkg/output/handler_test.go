package output

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/slogtest"
	"time"
)

func TestTheHandlerIsOneOfSlog(t *testing.T) {
	var buf bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		buf.Reset()
		return NewHandler(&buf, nil)
	}, func(t *testing.T) map[string]any {
		pairs, err := decodeRecord(buf.String())
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]any{}
		for _, p := range pairs {
			m := all
			path := strings.Split(p.key, ".")
			for _, group := range path[:len(path)-1] {
				if m[group] == nil {
					m[group] = map[string]any{}
				}
				m = m[group].(map[string]any)
			}
			m[path[len(path)-1]] = p.value
		}
		return all
	})
}

type panicking struct{}

func (*panicking) String() string { panic("no") }

func TestHandlerLines(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(NewHandler(&buf, slog.LevelDebug))
	var odd slog.Attr
	odd.Key, odd.Value = "a b", slog.IntValue(1)
	for _, c := range []struct {
		name, want string
		say        func()
	}{
		{"levels are those of the children's lines", `level=debug msg="a b"`, func() { log.Debug("a b") }},
		{"what is above error is fatal", `level=fatal msg="x"`, func() { log.Log(t.Context(), slog.LevelError+4, "x") }},
		{"values are quoted where needed", `level=info msg="x" a=b c="d e" n=1 f=1.5 u=2 ok=true d=1.5s`,
			func() {
				log.Info("x", "a", "b", "c", "d e", "n", 1, "f", 1.5, "u", uint(2), "ok", true, "d", 1500*time.Millisecond)
			}},
		{"times have milliseconds", `level=warn msg="x" at=2026-01-02T03:04:05.006Z`,
			func() { log.Warn("x", "at", time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)) }},
		{"groups are joined with dots", `level=info msg="x" a=1 g.b=2 g.h.c=3`,
			func() { log.With("a", 1).WithGroup("g").Info("x", "b", 2, slog.Group("h", "c", 3)) }},
		{"errors, stringers and others are text", `level=error msg="x" err="it broke" ip=::1 b=raw s={A:1} nil=<nil>`,
			func() {
				log.Error("x", "err", errors.New("it broke"), "ip", netip.IPv6Loopback(), "b", []byte("raw"), "s", struct{ A int }{1}, "nil", nil)
			}},
		{"a value that panics does not", `level=info msg="x" p="%!v(PANIC=String method: no)"`,
			func() { log.Info("x", "p", &panicking{}) }},
		{"newlines stay in the line", `level=info msg="a\nb" c="d\ne"`, func() { log.Info("a\nb", "c", "d\ne") }},
		{"an odd key is escaped", `level=info msg="x" a%20b=1`, func() { log.Info("x", odd) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			buf.Reset()
			c.say()
			_, got, _ := strings.Cut(buf.String(), " ")
			if got != c.want+"\n" {
				t.Errorf("got  %swant %s", got, c.want)
			}
		})
	}
}

type logging struct{ log *slog.Logger }

func (l logging) LogValue() slog.Value {
	l.log.Info("inner")
	return slog.StringValue("v")
}

func TestAValueThatLogsDoesNotDeadlock(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(NewHandler(&buf, nil))
	log.Info("outer", "v", logging{log})
	if got := msgs(t, linesOf(buf.Bytes())); strings.Join(got, ",") != "inner,outer" {
		t.Errorf("%q", got)
	}
}

func TestOwnLinesCostNoAllocation(t *testing.T) {
	log := slog.New(NewHandler(io.Discard, nil)).With("name", "web")
	got := testing.AllocsPerRun(1000, func() { log.Info("process started", "pid", 4711, "phase", "running", "took", time.Second) })
	if got > 0.5 && !raceEnabled {
		t.Errorf("%v allocations", got)
	}
}
