package prommerge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// helperEnv makes this test binary a second process, which serves pages and scrapes, so that the CPU time of the
// process under measurement is that of merging alone.
const (
	helperEnv    = "PROMMERGE_TEST_HELPER"
	helperMerges = "merges" // it serves no pages and has their memory not
	helperServes = "serves"
)

// targetsOf returns targets for a set of pages that the helper at base serves.
func targetsOf(base, set, wire string) []prommerge.Target {
	_, count, _ := strings.Cut(set, "×")
	n, _ := strconv.Atoi(count)
	ts := make([]prommerge.Target, n)
	for i := range ts {
		ts[i] = prommerge.Target{Name: fmt.Sprintf("p%d", i), URL: fmt.Sprintf("%s/%s/%s/%d", base, url.PathEscape(set), wire, i)}
	}
	return ts
}

func serveHelper() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	var sets []pageSet
	if os.Getenv(helperEnv) == helperServes {
		sets = pageSets()
	}
	for _, s := range sets {
		for wire, ct := range map[string]string{"text": textType, "proto": protoType} {
			pages := s.pages
			if wire == "proto" {
				pages = nil
				for _, p := range s.pages {
					pages = append(pages, asProto(p))
				}
			}
			mux.HandleFunc("GET /"+s.name+"/"+wire+"/{i}", func(w http.ResponseWriter, r *http.Request) {
				i, _ := strconv.Atoi(r.PathValue("i"))
				page := pages[i%len(pages)]
				w.Header().Set("Content-Type", ct)
				w.Header().Set("Content-Length", strconv.Itoa(len(page)))
				_, _ = w.Write(page)
			})
		}
	}
	mux.HandleFunc("GET /scrape", scrape)
	merger := prommerge.New(prommerge.Options{Async: true, Sort: true})
	mux.HandleFunc("GET /merge/{set}", func(w http.ResponseWriter, r *http.Request) { // of pages of another helper
		merger.Handler(func() []prommerge.Target { return targetsOf(r.FormValue("from"), r.PathValue("set"), "text") }).ServeHTTP(w, r)
	})
	go func() { // the parent holds the other end
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("http://" + l.Addr().String())
	_ = http.Serve(l, mux)
}

// scrape scrapes ?url= ?n= times and answers with the bytes that came.
func scrape(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	total := int64(0)
	for range n {
		req, err := http.NewRequest(http.MethodGet, r.FormValue("url"), nil)
		if err != nil {
			panic(err)
		}
		req.Header.Set("Accept", r.FormValue("accept"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			panic(err)
		}
		k, err := io.Copy(io.Discard, resp.Body)
		if err != nil {
			panic(err)
		}
		_ = resp.Body.Close()
		total += k
	}
	_, _ = fmt.Fprint(w, total)
}

// startHelper starts the second process and returns its URL.
func startHelper(tb testing.TB, role string) (string, int) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+role)
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
	tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid
}
