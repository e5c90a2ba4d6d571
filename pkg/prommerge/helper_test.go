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
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
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

var contenders = map[string]contender{"concat": byConcatenating, "expfmt": byDecoding}

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
	go func() { // the parent holds the other end
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("http://" + l.Addr().String())
	_ = http.Serve(l, mux)
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
		req.Header.Set("Accept-Encoding", r.FormValue("encoding"))
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

// startRole starts this test binary as another process.
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
	return start(tb, cmd, out, `^(http://\S+)`, func() { _ = in.Close() })
}

// start starts a process that says in its first line on out where it listens.
func start(tb testing.TB, cmd *exec.Cmd, out io.Reader, listens string, end func()) other {
	tb.Helper()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	m := regexp.MustCompile(listens).FindStringSubmatch(line)
	if err != nil || m == nil {
		tb.Fatalf("%v in %q", err, line)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = lines.WriteTo(os.Stderr) })
	return other{url: m[1], pid: cmd.Process.Pid, end: func() {
		end()
		wg.Wait()
		_ = cmd.Wait()
	}}
}

// cpu is the CPU time of all threads of o so far.
func (o other) cpu(tb testing.TB) (total time.Duration) {
	tb.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", o.pid))
	if err != nil || len(threads) == 0 {
		tb.Skip("needs /proc") // on other systems
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		ns, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		total += time.Duration(n)
	}
	return total
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
func (o other) scrape(tb testing.TB, c other, wire, encoding string, n int) (s scraped) {
	tb.Helper()
	o.ask(tb, "/scrape?n="+strconv.Itoa(n)+"&accept="+url.QueryEscape(typeOf(wire))+"&encoding="+encoding+"&url="+url.QueryEscape(c.url), &s)
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
