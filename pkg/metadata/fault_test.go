package metadata

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// listen serves s on a port of the loopback until the test ends, and returns its address.
func listen(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return l.Addr().String()
}

// fetch asks for preempted on a new connection.
func fetch(t *testing.T, addr, query string) (status int, body string, h http.Header, err error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+base+"instance/preempted"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Metadata-Flavor", "Google")
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header, err
}

func inject(t *testing.T, s *Server, fields ...string) {
	t.Helper()
	m := map[string]string{}
	for pair := range slices.Chunk(fields, 2) {
		m[pair[0]] = pair[1]
	}
	f, err := ParseFault(m)
	if err == nil {
		err = s.Inject(f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what a client sees, as text: the status, or what went wrong, and the body.
func answer(t *testing.T, addr, query string) string {
	t.Helper()
	status, body, h, err := fetch(t, addr, query)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "truncated " + body
	case err != nil && strings.Contains(err.Error(), "malformed HTTP"):
		return "malformed"
	case err != nil:
		return err.Error()
	case status != 200:
		return strings.TrimSpace(http.StatusText(status) + " " + h.Get("Metadata-Flavor") + " " + h.Get("Retry-After"))
	case len(body) > 5:
		return fmt.Sprint(len(body), " bytes")
	}
	return body
}

func TestFaultsOnTheWire(t *testing.T) {
	s := newServer(t, Config{})
	addr := listen(t, s)
	for _, test := range []struct {
		name   string
		fields []string
		query  string
		want   string
	}{
		{"a status", []string{"status", "503"}, "", "Service Unavailable Google"},
		{"a status with Retry-After, in whole seconds", []string{"status", "429", "retryAfter", "1500ms"}, "", "Too Many Requests Google 2"},
		{"a reset", []string{"mode", "reset"}, "", "reset"},
		{"a truncated body", []string{"mode", "truncate"}, "", "truncated FA"},
		{"garbage", []string{"mode", "garbage"}, "", "512 bytes"},
		{"what is no HTTP", []string{"mode", "badhttp"}, "", "malformed"},
		{"a refused connection", []string{"mode", "refuse"}, "", "refused"},
		{"an answer at once to one who waits", []string{"mode", "nowait"}, "?wait_for_change=true", "FALSE"},
		{"an answer that drips", []string{"mode", "slowloris", "interval", "1ms"}, "", "FALSE"},
		{"a late answer", []string{"latency", "20ms"}, "", "FALSE"},
		{"a fault of another path", []string{"mode", "reset", "path", "/latest/"}, "", "FALSE"},
		{"a fault of a path below the base", []string{"mode", "reset", "path", "instance/pre"}, "", "reset"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inject(t, s, test.fields...)
			got := answer(t, addr, test.query)
			for start := time.Now(); test.want == "refused" && got != "refused" && time.Since(start) < 30*time.Second; {
				got = answer(t, addr, test.query) // the port takes a moment to close
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			s.ClearFaults()
			for start := time.Now(); got != "FALSE"; { // and to open
				if got = answer(t, addr, ""); time.Since(start) > 30*time.Second {
					t.Fatalf("after the fault: got %q", got)
				}
			}
		})
	}
}

func TestRefusingCutsWhoWaitsAndComesBack(t *testing.T) {
	s := newServer(t, Config{})
	addr := listen(t, s)
	var wg sync.WaitGroup
	var waited error
	wg.Go(func() { _, _, _, waited = fetch(t, addr, "?wait_for_change=true") })
	for s.State().Waiting == 0 {
		if _, _, _, err := fetch(t, addr, ""); err != nil {
			t.Fatal(err)
		}
	}
	inject(t, s, "mode", "refuse", "for", "600ms")
	wg.Wait()
	if waited == nil {
		t.Error("who waited got an answer")
	}
	refused := 0
	start := time.Now()
	for {
		_, body, _, err := fetch(t, addr, "")
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused++
		}
		if body == "FALSE" {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("the port is still closed: %v", err)
		}
	}
	if refused == 0 {
		t.Error("no connection was refused")
	}
}

func TestANewPodIsRefusedAtFirst(t *testing.T) {
	const warmUp = 600 * time.Millisecond
	start := time.Now()
	s := newServer(t, Config{Personality: GKEWorkloadIdentity, WarmUp: warmUp})
	addr := listen(t, s)
	for again := range 2 {
		refused := 0
		for {
			_, body, _, err := fetch(t, addr, "")
			if body == "Not Found\n" {
				break
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				refused++
			}
			if body != "" || time.Since(start) > 30*time.Second {
				t.Fatalf("it answers %q, %v", body, err)
			}
		}
		if took := time.Since(start); took < warmUp || refused == 0 {
			t.Errorf("time %d: an answer after %v, %d refused", again, took, refused)
		}
		start = time.Now()
		s.Reset()
	}
	s.ClearFaults()
	for start = time.Now(); ; {
		if _, body, _, _ := fetch(t, addr, ""); body != "" {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatal("it is refused still")
		}
	}
}

func TestForHowLongANewPodIsRefused(t *testing.T) {
	for _, test := range []struct {
		personality Personality
		warmUp      time.Duration
		want        string
	}{
		{GKEWorkloadIdentity, 0, "refuse for=3s"},
		{GKEWorkloadIdentity, time.Second, "refuse for=1s"},
		{GKEWorkloadIdentity, -1, ""},
		{GCE, 0, ""},
		{AWS, 2 * time.Second, "refuse for=2s"},
	} {
		s := newServer(t, Config{Personality: test.personality, WarmUp: test.warmUp})
		if got := strings.Join(s.State().Faults, "; "); got != test.want {
			t.Errorf("%s %v: %q, not %q", test.personality, test.warmUp, got, test.want)
		}
	}
}

func TestAHangingRequestEndsWithItsFault(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields []string
		then   func(*Server)
		want   time.Duration
	}{
		{"when its time is over", []string{"mode", "hang", "for", "7s"}, func(*Server) {}, 7 * time.Second},
		{"when it is cleared", []string{"mode", "hang"}, func(s *Server) { time.Sleep(3 * time.Second); s.ClearFaults() }, 3 * time.Second},
		{"at a reset", []string{"mode", "hang"}, func(s *Server) { time.Sleep(3 * time.Second); s.Reset() }, 3 * time.Second},
		{"when the server closes", []string{"mode", "hang"}, func(s *Server) { time.Sleep(time.Second); s.Close() }, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{})
				inject(t, s, test.fields...)
				h := hang(s, base+pathPreempted)
				test.then(s)
				<-h.done
				if h.took != test.want || !h.cut {
					t.Errorf("ended after %v (cut: %t), want a cut after %v", h.took, h.cut, test.want)
				}
			})
		})
	}
}

func TestFaultsByTimeCountAndChance(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields []string
		want   string // one letter a second, from 0 s: . for 200, x for the fault
	}{
		{"until it is cleared", []string{}, "xxxxxxxxxxxx"},
		{"for some time", []string{"for", "3500ms"}, "xxxx........"},
		{"for some requests", []string{"count", "2"}, "xx.........."},
		{"flapping", []string{"flap", "2500ms"}, "xxx..xxx..xx"},
		{"flapping for some time", []string{"flap", "2500ms", "for", "6s"}, "xxx..x......"},
		{"by chance, the same with the same seed", []string{"probability", "0.5"}, "x.xx..xx.xxx"},
		{"always", []string{"probability", "1"}, "xxxxxxxxxxxx"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{Seed: 1})
				inject(t, s, append(test.fields, "status", "503")...)
				got := ""
				for range test.want {
					if w := ask(s, "GET", base+pathPreempted); w.Code == 503 {
						got += "x"
					} else {
						got += "."
					}
					time.Sleep(time.Second)
				}
				if got != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
			})
		})
	}
}

func TestTheFirstFaultThatConcernsARequestDecides(t *testing.T) {
	s := newServer(t, Config{})
	inject(t, s, "status", "500", "count", "1")
	inject(t, s, "status", "404", "path", "instance/preempted", "count", "1")
	var got []int
	for range 3 {
		got = append(got, ask(s, "GET", base+pathPreempted).Code)
	}
	if want := []int{500, 404, 200}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	s := newServer(t, Config{})
	for range maxFaults {
		inject(t, s, "mode", "reset")
	}
	if err := s.Inject(Fault{Mode: "reset"}); err == nil || err.Error() != "fault: 100 are in force already: clear them first" {
		t.Errorf("got %v", err)
	}
}

func TestParseFaultNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields map[string]string
		want   string
	}{
		{"nothing", nil, `fault: mode is "": use latency, status, hang, reset, truncate, slowloris, garbage, badhttp, refuse, nowait`},
		{"an unknown mode", map[string]string{"mode": "boom"}, `fault: mode is "boom": use latency, status, hang, reset, truncate, slowloris, garbage, badhttp, refuse, nowait`},
		{"an unknown field", map[string]string{"code": "503"}, `fault: unknown field "code": use count, flap, for, interval, latency, mode, path, probability, retryAfter, status`},
		{"a status that is no error", map[string]string{"status": "200"}, `fault: status is "200": use a number from 400 to 599`},
		{"a mode that needs a status", map[string]string{"mode": "status"}, `fault: mode status needs a status such as 503`},
		{"a status with another mode", map[string]string{"mode": "hang", "status": "503"}, `fault: a status does not go with mode hang`},
		{"a mode that needs a latency", map[string]string{"mode": "latency"}, `fault: mode latency needs a latency such as 2s`},
		{"a duration without a unit", map[string]string{"mode": "hang", "for": "5"}, `fault: for is "5": use a duration such as 500ms or 10s`},
		{"a duration below zero", map[string]string{"mode": "hang", "flap": "-5s"}, `fault: flap is "-5s": use a duration such as 500ms or 10s`},
		{"a probability above one", map[string]string{"mode": "hang", "probability": "50"}, `fault: probability is "50": use a number above 0 and at most 1`},
		{"a probability that is none", map[string]string{"mode": "hang", "probability": "NaN"}, `fault: probability is "NaN": use a number above 0 and at most 1`},
		{"a count of zero", map[string]string{"mode": "hang", "count": "0"}, `fault: count is "0": use a number from 1 to 1000000000`},
		{"refuse by path", map[string]string{"mode": "refuse", "path": "/latest"},
			`fault: mode refuse closes the port, so it has no path, count, probability or latency: use for or flap, or mode reset`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := ParseFault(test.fields); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// FuzzParseFault holds that what is accepted says of itself what it is, so that it can be given again.
func FuzzParseFault(f *testing.F) {
	f.Add("mode=hang for=5s")
	f.Add("status=503 retryAfter=2s count=3 probability=0.25 path=instance/preempted")
	f.Add("mode=slowloris interval=10ms flap=1m latency=3s")
	f.Fuzz(func(t *testing.T, text string) {
		fields := map[string]string{}
		for word := range strings.FieldsSeq(text) {
			name, value, _ := strings.Cut(word, "=")
			fields[name] = value
		}
		fault, err := ParseFault(fields)
		if err != nil || strings.ContainsFunc(fault.Path, func(r rune) bool { return r <= ' ' || r == 0x85 || r == 0xa0 || r > 0x1000 }) {
			return
		}
		again := map[string]string{}
		for i, word := range strings.Fields(fault.String()) {
			name, value, _ := strings.Cut(word, "=")
			if i == 0 {
				name, value = "mode", word
			}
			again[name] = value
		}
		second, err := ParseFault(again)
		if err != nil || second != fault {
			t.Errorf("%q gives %+v, its text %q gives %+v, %v", text, fault, fault.String(), second, err)
		}
	})
}

func TestSlowlorisEndsWhenItIsCleared(t *testing.T) {
	s := newServer(t, Config{})
	addr := listen(t, s)
	inject(t, s, "mode", "slowloris", "interval", "1h")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	read := bufio.NewReader(conn)
	if b, err := read.ReadByte(); b != 'H' || err != nil {
		t.Fatalf("first byte %q, %v", b, err)
	}
	s.ClearFaults()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := read.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}
