package prommerge_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// roleEnv makes this test binary another process: one that serves pages and scrapes, or one that answers scrapes with
// them, so that CPU time and memory of that one are those of merging alone. Its value is a role, which may be
// followed by a page set, a wire format and the URL of the pages.
const (
	roleEnv   = "PROMMERGE_TEST_ROLE"
	rolePages = "pages"
)

// contender makes the handler for one way to answer with the pages of all targets.
type contender func(targets []prommerge.Target, wire string) http.Handler

var contenders = map[string]contender{"prommerge": byMerging, "concat": byConcatenating, "expfmt": byDecoding}

func byMerging(targets []prommerge.Target, _ string) http.Handler {
	m := prommerge.New(prommerge.Options{Async: true, Sort: true})
	return m.Handler(func() []prommerge.Target { return targets })
}

// targetsOf returns targets for a set of pages that are served at base.
func targetsOf(base, set, wire string) []prommerge.Target {
	_, count, _ := strings.Cut(set, "×")
	n, _ := strconv.Atoi(count)
	ts := make([]prommerge.Target, n)
	for i := range ts {
		ts[i] = prommerge.Target{Name: fmt.Sprintf("p%d", i), URL: fmt.Sprintf("%s/%s/%s/%d", base, url.PathEscape(set), wire, i)}
	}
	return ts
}

// playRole serves until the test ends.
func playRole(role string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	if role == rolePages {
		servePages(mux)
	} else {
		f := strings.Fields(role)
		mux.Handle("GET /{$}", contenders[f[0]](targetsOf(f[3], f[1], f[2]), f[2]))
	}
	mux.HandleFunc("GET /usage", func(w http.ResponseWriter, _ *http.Request) {
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		_ = json.NewEncoder(w).Encode(usage{CPU: cpuTime(), Allocs: ms.Mallocs})
	})
	go func() { // the parent holds the other end
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("http://" + l.Addr().String())
	_ = http.Serve(l, mux)
}

// usage is what a process has used so far.
type usage struct {
	CPU    time.Duration
	Allocs uint64
}

// cpuTime is the CPU time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// servePages serves /set/wire/number and /scrape.
func servePages(mux *http.ServeMux) {
	for _, wire := range []string{"text", "proto"} {
		for _, s := range pageSets(wire) {
			mux.HandleFunc("GET /"+s.name+"/"+wire+"/{i}", func(w http.ResponseWriter, r *http.Request) {
				i, _ := strconv.Atoi(r.PathValue("i"))
				page := s.pages[i%len(s.pages)]
				w.Header().Set("Content-Type", typeOf(wire))
				w.Header().Set("Content-Length", strconv.Itoa(len(page)))
				_, _ = w.Write(page)
			})
		}
	}
	mux.HandleFunc("GET /scrape", scrape)
}

// scraped is what scrapes took and brought.
type scraped struct {
	Took  []time.Duration
	Bytes int64 // of the last one
}

// scrape scrapes ?url= ?n= times.
func scrape(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	var s scraped
	for range n {
		req, err := http.NewRequest(http.MethodGet, r.FormValue("url"), nil)
		if err != nil {
			panic(err)
		}
		req.Header.Set("Accept", r.FormValue("accept"))
		start := time.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			panic(err)
		}
		if s.Bytes, err = io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			panic(fmt.Sprint(resp.Status, err))
		}
		_ = resp.Body.Close()
		s.Took = append(s.Took, time.Since(start))
	}
	_ = json.NewEncoder(w).Encode(s)
}

// other is another process.
type other struct {
	url string
	pid int
	end func()
}

// startRole starts another process.
func startRole(tb testing.TB, role ...string) other {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+strings.Join(role, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	o := other{pid: cmd.Process.Pid, end: func() {
		_ = in.Close()
		_ = cmd.Wait()
	}}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	o.url = strings.TrimSpace(line)
	return o
}

// ask decodes the answer of another process.
func (o other) ask(tb testing.TB, path string, answer any) {
	tb.Helper()
	resp, err := http.Get(o.url + path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		tb.Fatal(path, err)
	}
}

// scrape lets o scrape a contender.
func (o other) scrape(tb testing.TB, c other, wire string, n int) (s scraped) {
	tb.Helper()
	o.ask(tb, "/scrape?n="+strconv.Itoa(n)+"&accept="+url.QueryEscape(typeOf(wire))+"&url="+url.QueryEscape(c.url), &s)
	return s
}

// memory reads a line of /proc/PID/status, in bytes.
func (o other) memory(tb testing.TB, key string) int64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.pid))
	if err != nil {
		tb.Skip("needs /proc") // on other systems
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, key+": %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	tb.Fatal("no " + key)
	return 0
}
