package collect

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

const goodEvent = `{"name":"good","op":"inc","value":1}`

// hostile is what must not harm, one datagram each.
func hostile(size int) []string {
	long := strings.Repeat("x", size)
	out := []string{
		"", " ", "\n", "{", "}", "[", "]", "{}", "[]", "[{}]", "null", "1", `"`, `"x"`, "\x00", "\xff\xff\xff", "hello", "a.b:1|c", "GET / HTTP/1.1\r\n\r\n",
		`{"op":"inc"}`, `{"name":"","op":"inc"}`, `{"name":"a"}`, `{"name":"a","op":"drop"}`, `{"name":null,"op":null}`, `{"name":1,"op":2}`, `{"name":"a","op":["inc"]}`,
		`{"name":"a","op":"inc","labels":null}`, `{"name":"a","op":"inc","labels":{"x":null}}`, `{"name":"a","op":"inc","labels":{"x":1}}`, `{"name":"a","op":"inc","labels":"x"}`,
		`{"name":"a","op":"inc","labels":{"le":"1"}}`, `{"name":"a","op":"inc","labels":{"quantile":"1"}}`, `{"name":"a","op":"inc","labels":{"__name__":"good"}}`,
		`{"name":"a","op":"inc","labels":{"":"1"}}`, `{"name":"a","op":"inc","value":-1}`, `{"name":"good","op":"inc","value":-5}`, `{"name":"a","op":"inc","value":NaN}`,
		`{"name":"a","op":"set","value":Infinity}`, `{"name":"a","op":"set","value":1e999}`, `{"name":"good","op":"inc","value":"1"}`, `{"name":"a","op":"inc","value":{}}`,
		`{"name":"good","op":"set","value":7}`, `{"name":"good","op":"obs","value":7}`, `{"name":"go","op":"obs","value":7}`, `{"name":"go_count","op":"inc","value":7}`,
		`{"name":"b","op":"obs","buckets":-1}`, `{"name":"b","op":"obs","buckets":400000000}`, `{"name":"b","op":"obs","bucket_factor":1}`, `{"name":"b","op":"obs","bucket_custom":[3,2,1]}`,
		`{"name":"b","op":"obs","bucket_min":5,"bucket_max":1}`, `{"name":"b","op":"obs","bucket_width":-1}`, `{"name":"b","op":"obs","bucket_custom":["a"]}`,
		"{\"name\":\"\xc3(\",\"op\":\"inc\"}", `{"name":"\ud800","op":"inc"}`, "{\"name\":\"a\nb\",\"op\":\"inc\"}", `{"name":"a","op":"inc","labels":{"x":"{\"name\":\"good\",\"op\":\"inc\",\"value\":1}"}`,
		`{"name":"a","op":"inc"`, `{"name":"a","op":"inc","labels":{"x":"y`, `{"name":"a","op":"inc",}`, `{"name":"a" "op":"inc"}`, `{'name':'a'}`,
		strings.Repeat("[", size), strings.Repeat("{", size), strings.Repeat(`{"a":`, size/5), strings.Repeat("\n{", size/2), strings.Repeat(`"`, size), strings.Repeat(`\`, size), long,
		`{"name":"` + long + `","op":"inc"}`, `{"name":"a","op":"inc","labels":{"x":"` + long + `"}}`, `{"name":"a","op":"inc","value":` + strings.Repeat("9", size) + `}`,
		`{"name":"a","op":"index","index":"x\"}}\n{\"delete\":{}}"}`, `{"name":"a","op":"index","index":"../x"}`, `{"name":"a","op":"raw"}`, `{"op":"shutdown"}`, `{"name":"good","op":"shutdown"}`,
		`{"name":"a","op":"event","timestamp":"x"}`, `{"name":"a","op":"event","timestamp":1e300}`, `{"name":"a","op":"set","ttl":-1}`, `{"name":"a","op":"set","ttl":"x"}`,
		`{"name":"metrics_server_x","op":"inc"}`, `{"name":"own_x","op":"inc","value":1}`, `{"name":"taken","op":"inc","value":1}`,
		`{"name":"日本","op":"inc","value":1,"labels":{"é":"\u0000\u001b[31m"}}`, `{"name":"-","op":"set","value":-0.0}`, `{"name":"  ","op":"set","value":1}`,
	}
	return out
}

func TestNoDatagramHarmsAnother(t *testing.T) {
	all := hostile(60_000)
	if len(all) < 60 {
		t.Fatalf("only %d datagrams", len(all))
	}
	r := newRig(t, Limits{}, nil)
	conns := []net.Conn{r.dial("udp", r.udp), r.dial("unixgram", r.unixgram)}
	const goods, orders = 10_000, 6
	sent := 0
	for order := range orders {
		c := conns[order%2]
		for i, k := range rand.New(rand.NewPCG(uint64(order), 1)).Perm(len(all)) {
			write(t, c, all[k])
			for range goods/orders/len(all) + 1 {
				write(t, c, goodEvent)
				sent++
			}
			if i%8 == 0 { // what a socket buffer holds is not what is tested here
				r.until(float64(sent), "good")
			}
		}
	}
	for ; sent < goods; sent++ {
		write(t, conns[0], goodEvent)
		if sent%64 == 0 {
			r.until(float64(sent+1), "good")
		}
	}
	r.until(float64(sent), "good")
	// Each right after each other one.
	all = hostile(2000)
	for i := range all {
		for j := range all {
			r.feed(all[i] + "\n" + all[j])
		}
	}
	r.families()
}

// feed reads a datagram as if it had come over UDP.
func (r *rig) feed(s string) {
	var p processor
	l := r.listeners[0]
	r.reg.mu.Lock()
	r.datagram(&p, l, 0, []byte(s), time.Now())
	r.reg.mu.Unlock()
	r.deliver(&p)
}

func FuzzAnyDatagramLeavesAValidPage(f *testing.F) {
	for _, s := range hostile(900) {
		if len(s) < 1000 {
			f.Add([]byte(s), []byte(goodEvent))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := &rig{t: t, reg: NewRegistry(Limits{Series: 100}, "taken", "own_*")}
		r.Server = NewServer(Config{Registry: r.reg})
		l := &listener{name: "udp", remote: true, labels: withLabels(nil, ":9999", "")}
		var p processor
		for _, in := range [][]byte{[]byte(goodEvent), a, []byte(goodEvent), b, []byte(goodEvent)} {
			r.reg.mu.Lock()
			r.datagram(&p, l, 0, in, time.Now())
			r.reg.mu.Unlock()
		}
		families := parsePage(t, r.reg.page(t))
		if got := value(families, "good", "data_source", ":9999"); got < 3 && !strings.Contains(string(a)+string(b), "good") {
			t.Fatalf("%v good ones are counted", got)
		}
	})
}

func TestEverySocket(t *testing.T) {
	r := newRig(t, Limits{}, func(c *Config) { c.Labels = []datagram.Label{{Name: "zone", Value: "eu"}} })
	write(t, r.dial("udp", r.udp), `[{"name":"a","op":"inc","value":1},{"name":"a","op":"inc","value":2}]`)
	r.until(3, "a", "data_source", "127.0.0.1:0", "zone", "eu")
	write(t, r.dial("unixgram", r.unixgram), `{"name":"b","op":"inc","value":1}`)
	r.until(1, "b", "data_source", r.unixgram, "source_app", "gram", "zone", "eu")
	c := r.dial("unix", r.unix)
	write(t, c, `{"name":"c","op":"inc","value":1}{"name":"c","op"`)
	r.until(1, "c", "data_source", r.unix, "source_app", "app")
	write(t, c, `:"inc","value":5}`)
	r.until(6, "c")
	write(t, r.dial("udp", r.statsd), "d.e:3|c|#x:y\nd.e:1|c|@0.1|#x:y\nt:250|ms\ng:7|g\ng:-2|g\nbad\n:1|c\nx:1|s\n")
	r.until(13, "d_e", "x", "y")
	r.until(5, "g")
	r.until(1, "t")
	r.until(3, "metrics_server_dropped_total", "kind", "malformed")
}

func TestEventsGoToTheirSinks(t *testing.T) {
	r := newRig(t, Limits{}, nil)
	c := r.dial("unix", r.unix)
	write(t, c, `{"name":"e","op":"event","labels":{"b-c":"","le":"x"},"id":"1","timestamp":1700000000}{"name":"e","op":"event","id":"1"}{"name":"i","op":"index","index":"x"}{"name":"r","op":"raw"}{"op":"shutdown"}`)
	r.until(1, "metrics_server_dropped_total", "reason", "shutdown_not_allowed")
	r.until(1, "metrics_server_dropped_total", "reason", "unsupported")
	r.until(1, "metrics_server_dropped_total", "reason", "duplicate")
	if !soon(func() bool { return len(r.events.all()) == 1 && len(r.index.all()) == 1 }) {
		t.Fatalf("events %v, index %v", r.events.all(), r.index.all())
	}
	e := r.events.all()[0]
	if e.Label("source_app") != "app" || e.Label("le") != "x" || e.Time.Unix() != 1700000000 || len(e.Labels) != 4 {
		t.Errorf("the event is %+v", e)
	}
	if at := r.index.all()[0].Time; time.Since(at) > time.Minute {
		t.Errorf("an event without a time got %v", at)
	}
	r.events.mu.Lock()
	r.events.fail = errNo
	r.events.mu.Unlock()
	write(t, c, `{"name":"e","op":"event","id":"2"}{"name":"e","op":"event","id":"2"}`)
	r.until(2, "metrics_server_dropped_total", "reason", "sink_full")
}

func TestEverythingThatIsAppliedIsPassedOn(t *testing.T) {
	far := &keep{}
	r := newRig(t, Limits{}, func(c *Config) { c.Forward = far })
	write(t, r.dial("unix", r.unix), `{"name":"a","op":"inc","value":2,"ttl":"5s","labels":{"instance":"kept"}}{"name":"a","op":"set","value":1}{"name":"h","op":"obs","value":3,"bucket_custom":[1,5]}`+
		`{"name":"e","op":"event","id":"1","labels":{"x":"y"}}{"name":"e","op":"event","id":"1"}{"name":"i","op":"index","index":"x"}{"name":"r","op":"raw"}`)
	r.until(1, "metrics_server_dropped_total", "reason", "unsupported")
	write(t, r.dial("udp", r.statsd), "g:7|g\ng:+2|g\nt:250|ms") // JSON has no word for a change of a gauge
	r.until(9, "g")
	r.until(1, "t")
	var got []string
	if !soon(func() bool { return len(far.all()) == 7 }) {
		t.Fatalf("%d were passed on", len(far.all()))
	}
	for _, m := range far.all() {
		got = append(got, string(datagram.Append(nil, m)))
		if want := map[bool]string{true: "127.0.0.1:0", false: r.unix}[m.Name == "g" || m.Name == "t"]; m.Label("data_source") != want {
			t.Errorf("data_source of %s is %s", m.Name, m.Label("data_source"))
		}
	}
	for i, want := range []string{
		`"name":"a","op":"inc","value":2,`, `"name":"h","op":"obs","value":3,`, `"name":"e","op":"event","value":0,`, `"name":"i","op":"index","value":0,`,
	} {
		if !strings.Contains(got[i], want) {
			t.Errorf("got %s, want %s", got[i], want)
		}
	}
	for i, want := range []string{`"ttl":"5s"`, `"bucket_custom":[1,5]`, `"id":"1"`, `"index":"x"`} {
		if !strings.Contains(got[i], want) {
			t.Errorf("%s has no %s", got[i], want)
		}
	}
	if g := far.all()[4:6]; g[0].Op != datagram.Set || g[1].Op != datagram.Set || g[1].Value != 9 {
		t.Errorf("the gauge is passed on as %+v, %+v", g[0], g[1])
	}
}

func TestShutdown(t *testing.T) {
	asked := make(chan struct{}, 9)
	r := newRig(t, Limits{}, func(c *Config) { c.AllowShutdown, c.Shutdown = true, func() { asked <- struct{}{} } })
	write(t, r.dial("udp", r.udp), `{"op":"shutdown"}`)
	r.until(1, "metrics_server_dropped_total", "reason", "shutdown_not_allowed")
	if len(asked) > 0 {
		t.Fatal("UDP may shut down")
	}
	write(t, r.dial("unix", r.unix), `{"op":"shutdown"}`)
	select {
	case <-asked:
	case <-time.After(10 * time.Second):
		t.Fatal("not asked")
	}
}

func TestWhoMaySend(t *testing.T) {
	r := newRig(t, Limits{}, func(c *Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	write(t, r.dial("udp", r.udp), goodEvent)
	r.until(1, "metrics_server_dropped_total", "reason", "source_not_allowed")
	write(t, r.dial("unix", r.unix), goodEvent)
	r.until(1, "good")
	for addr, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "fe80::1%eth0": false} {
		if _, got := r.admit(netip.MustParseAddr(addr), time.Now()); got != want {
			t.Errorf("%s may send: %v", addr, got)
		}
	}
}

func TestARateForEachSource(t *testing.T) {
	l := newLimiter(10)
	a, b := l.source(netip.MustParseAddr("10.0.0.1")), l.source(netip.MustParseAddr("10.0.0.2"))
	if x, y := l.source(netip.MustParseAddr("fd00::1")), l.source(netip.MustParseAddr("fd00::2")); x != y {
		t.Error("two addresses of a network have two rates")
	}
	now := time.Now().UnixNano()
	if !l.allow(a, now) {
		t.Fatal("the first is refused")
	}
	l.spend(a, 30) // one datagram may hold many
	if l.allow(a, now+1e9) || a != b && !l.allow(b, now) {
		t.Error("a burst must cost its source, and no other")
	}
	if !l.allow(a, now+4e9) {
		t.Error("refused although the time is over")
	}
}

func TestStreams(t *testing.T) {
	t.Run("a message in pieces", func(t *testing.T) {
		r := newRig(t, Limits{}, nil)
		c := r.dial("unix", r.unix)
		for _, b := range []byte(goodEvent + "\n" + goodEvent) {
			write(t, c, string(b))
		}
		r.until(2, "good")
	})
	t.Run("half a message belongs to its own connection", func(t *testing.T) {
		r := newRig(t, Limits{}, nil)
		a, b := r.dial("unix", r.unix), r.dial("unix", r.unix)
		write(t, a, goodEvent[:12])
		write(t, b, goodEvent)
		r.until(1, "good")
		write(t, a, goodEvent[12:])
		r.until(2, "good")
		write(t, a, goodEvent[:12])
		_ = a.Close()
		r.until(1, "metrics_server_dropped_total", "reason", "truncated")
		write(t, b, goodEvent)
		r.until(3, "good")
	})
	t.Run("a message that is too long costs itself", func(t *testing.T) {
		r := newRig(t, Limits{}, func(c *Config) { c.MessageBytes = 5000 })
		c := r.dial("unix", r.unix)
		for range 3 {
			write(t, c, goodEvent+"\n"+`{"name":"`+strings.Repeat("x", 20000)+"\"}\n")
		}
		write(t, c, goodEvent+"\n"+`{"name":"a","op":"inc","labels":{"x":"`+strings.Repeat("y", 3000)+`"}}`+"\n"+goodEvent)
		r.until(5, "good")
		r.until(3, "metrics_server_dropped_total", "reason", "too_long")
	})
	t.Run("a line that is broken costs itself", func(t *testing.T) {
		r := newRig(t, Limits{}, nil)
		c := r.dial("unix", r.unix)
		for _, bad := range []string{"{\"name\":\"x", "{\"a\":[}", "nonsense", "{\"name\":\"q\"uote\"}", "\xff"} {
			write(t, c, bad+"\n"+goodEvent+"\n")
		}
		r.until(5, "good")
	})
	t.Run("a silent connection is closed", func(t *testing.T) {
		r := newRig(t, Limits{}, func(c *Config) { c.Idle = 30 * time.Millisecond })
		c := r.dial("unix", r.unix)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("connections are limited", func(t *testing.T) {
		r := newRig(t, Limits{}, func(c *Config) { c.Connections = 2 })
		a, _ := r.dial("unix", r.unix), r.dial("unix", r.unix)
		r.until(2, "metrics_server_connections")
		c := r.dial("unix", r.unix)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		r.until(1, "metrics_server_connections_refused_total", "listener", "unix")
		_ = a.Close()
		r.until(1, "metrics_server_connections")
	})
}

func TestOverload(t *testing.T) {
	r := newRig(t, Limits{}, func(c *Config) { c.QueueBytes = 64 << 10 })
	small := NewServer(Config{Registry: NewRegistry(Limits{})})
	if err := small.Listen(Socket{Network: "udp", Address: "127.0.0.1:0", Buffer: 4096}); err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	const n = 20000
	c := r.dial("udp", r.udp)
	r.reg.mu.Lock() // as a scrape that never ends
	for i := range n {
		write(t, c, []string{goodEvent, `{"name":"good","op":"set","value":1}`, "junk", `{"name":"e","op":"event"}`}[i%4])
	}
	r.reg.mu.Unlock()
	sum := func() float64 {
		all := r.families()
		return value(all, "metrics_server_applied_total") + value(all, "metrics_server_dropped_total") + value(all, "metrics_server_kernel_drops_total")
	}
	if !soon(func() bool { return sum() == n }) {
		t.Fatalf("%v of %d are accounted for", sum(), n)
	}
	all := r.families()
	if value(all, "metrics_server_dropped_total", "kind", "queue") == 0 || value(all, "metrics_server_applied_total") == 0 {
		t.Error("nothing was dropped, or all was: there was no overload")
	}
	// A socket that nobody reads: the kernel drops, and says so.
	d := r.dial("udp", small.Addrs()[0].String())
	for range 1000 {
		write(t, d, goodEvent)
	}
	if drops, granted := small.listeners[0].kernel(); drops == 0 || drops >= 1000 || granted <= 0 {
		t.Errorf("%d drops with a buffer of %d bytes", drops, granted)
	}
}

func TestEndReadsWhatHasCome(t *testing.T) {
	r := newRig(t, Limits{}, nil)
	c := r.dial("udp", r.udp)
	for range 200 {
		write(t, c, goodEvent)
	}
	r.stop()
	if got := value(r.families(), "good"); got != 200 {
		t.Errorf("%v of 200 were read", got)
	}
	for _, path := range []string{r.unix, r.unixgram} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

func TestSocketFiles(t *testing.T) {
	dir := t.TempDir()
	listen := func(network, path string) (*Server, error) {
		s := NewServer(Config{Registry: NewRegistry(Limits{})})
		return s, s.Listen(Socket{Network: network, Address: path, Mode: 0o600})
	}
	for _, network := range []string{"unix", "unixgram"} {
		path := filepath.Join(dir, network)
		s, err := listen(network, path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if _, err := listen(network, path); err == nil || !strings.Contains(err.Error(), "another process listens") {
			t.Errorf("a socket in use: %v", err)
		}
		s.Close()
		// What a killed one leaves.
		left, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		_ = left.Close()
		s, err = listen(network, path)
		if err != nil {
			t.Errorf("a stale socket: %v", err)
		}
		s.Close()
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix", file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
}
