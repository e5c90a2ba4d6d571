package prommerge_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// BenchmarkHTTP compares three ways to answer a scrape with the pages of all targets, over loopback HTTP, in CPU time
// of the process that merges: prommerge; concat, which writes the bytes back as they came (the limit); expfmt, which
// decodes, merges and encodes with prometheus/common. They take turns, so that the ratios hold on a busy machine.
func BenchmarkHTTP(b *testing.B) {
	helper, _ := startHelper(b, helperServes)
	for _, wire := range []string{"text", "proto"} {
		for _, s := range pageSets() {
			b.Run(s.name+"/"+wire, func(b *testing.B) { benchHTTP(b, helper, wire, s) })
		}
	}
}

type contender struct {
	name    string
	url     string
	cpu     time.Duration
	wall    time.Duration
	scrapes int
}

func benchHTTP(b *testing.B, helper, wire string, s pageSet) {
	targets := targetsOf(helper, s.name, wire)
	urls := make([]string, s.n)
	for i := range urls {
		urls[i] = targets[i].URL
	}
	m := prommerge.New(prommerge.Options{Async: true, Sort: true})
	defer m.Close()
	f := newFetcher()
	defer f.client.CloseIdleConnections()
	contenders := []*contender{{name: "prommerge"}, {name: "concat"}, {name: "expfmt"}}
	for i, h := range []http.Handler{
		m.Handler(func() []prommerge.Target { return targets }),
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { f.concat(w, urls) }),
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { f.expfmt(w, urls, wire) }),
	} {
		srv := httptest.NewServer(h)
		defer srv.Close()
		contenders[i].url = srv.URL
	}
	accept := ""
	if wire == "proto" {
		accept = protoType
	}
	for _, c := range contenders {
		c.run(b, helper, accept, 1)
		c.cpu, c.wall, c.scrapes = 0, 0, 0
	}
	round := 0
	for b.Loop() {
		for i, c := range contenders {
			if i < 2 || round%8 == 0 {
				c.run(b, helper, accept, 4)
			}
			if i == 2 && round%8 == 0 {
				runtime.GC() // its garbage is not for the next one to clear away
			}
		}
		round++
	}
	concat := contenders[1].perScrape()
	for _, c := range contenders {
		b.ReportMetric(c.perScrape(), c.name+"-cpu-ms")
	}
	b.ReportMetric(contenders[0].perScrape()/concat, "×concat")
	b.ReportMetric(contenders[2].perScrape()/contenders[0].perScrape(), "×less-than-expfmt")
	b.ReportMetric(float64(contenders[0].wall)/float64(contenders[1].wall), "×concat-wall")
	b.ReportMetric(0, "ns/op")
}

func (c *contender) perScrape() float64 { return c.cpu.Seconds() * 1000 / float64(c.scrapes) }

func (c *contender) run(b *testing.B, helper, accept string, n int) {
	cpu, start := cpuTime(), time.Now()
	resp, err := http.Get(helper + "/scrape?n=" + strconv.Itoa(n) + "&accept=" + url.QueryEscape(accept) + "&url=" + url.QueryEscape(c.url))
	if err != nil {
		b.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || len(body) < 4 {
		b.Fatal(c.name, resp.Status, string(body), err)
	}
	_ = resp.Body.Close()
	c.cpu += cpuTime() - cpu
	c.wall += time.Since(start)
	c.scrapes += n
}

// cpuTime is the CPU time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fetcher is what both other ways have in common with prommerge: 100 requests at a time on kept connections.
type fetcher struct {
	client *http.Client
	bodies sync.Pool
}

func newFetcher() *fetcher {
	return &fetcher{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}},
		bodies: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
}

func (f *fetcher) all(urls []string) []*bytes.Buffer {
	out := make([]*bytes.Buffer, len(urls))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(100, len(urls)) {
		wg.Go(func() {
			for i := range next {
				resp, err := f.client.Get(urls[i])
				if err != nil {
					panic(err)
				}
				buf := f.bodies.Get().(*bytes.Buffer)
				buf.Reset()
				buf.Grow(int(resp.ContentLength) + bytes.MinRead)
				if _, err := buf.ReadFrom(resp.Body); err != nil {
					panic(err)
				}
				_ = resp.Body.Close()
				out[i] = buf
			}
		})
	}
	for i := range urls {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// concat writes the pages back as they came.
func (f *fetcher) concat(w http.ResponseWriter, urls []string) {
	w.Header().Set("Content-Type", textType)
	for _, buf := range f.all(urls) {
		_, _ = w.Write(buf.Bytes())
		f.bodies.Put(buf)
	}
}

// expfmt decodes, merges and encodes.
func (f *fetcher) expfmt(w http.ResponseWriter, urls []string, wire string) {
	in, out := expfmt.NewFormat(expfmt.TypeTextPlain), expfmt.NewFormat(expfmt.TypeTextPlain)
	if wire == "proto" {
		in, out = expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoDelim)
	}
	w.Header().Set("Content-Type", string(out))
	families := map[string]*dto.MetricFamily{}
	label := model.LabelName(prommerge.LabelName)
	for i, buf := range f.all(urls) {
		dec := expfmt.NewDecoder(bytes.NewReader(buf.Bytes()), in)
		for {
			var mf dto.MetricFamily
			if err := dec.Decode(&mf); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				panic(err)
			}
			name, value := string(label), fmt.Sprintf("p%d", i)
			for _, m := range mf.Metric {
				m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &value})
			}
			if old := families[mf.GetName()]; old != nil {
				old.Metric = append(old.Metric, mf.Metric...)
			} else {
				families[mf.GetName()] = &mf
			}
		}
		f.bodies.Put(buf)
	}
	enc := expfmt.NewEncoder(w, out)
	for _, mf := range families {
		if err := enc.Encode(mf); err != nil {
			panic(err)
		}
	}
}

// BenchmarkPeakMemory says how much the resident memory of a fresh process grows at its peak, per byte of the merged
// page.
func BenchmarkPeakMemory(b *testing.B) {
	helper, _ := startHelper(b, helperServes)
	for _, set := range []string{"kube×10", "node×1000"} {
		b.Run(set, func(b *testing.B) {
			merger, pid := startHelper(b, helperMerges)
			before := memory(b, pid, "VmRSS")
			var page int64
			for b.Loop() {
				resp, err := http.Get(merger + "/merge/" + url.PathEscape(set) + "?from=" + url.QueryEscape(helper))
				if err != nil {
					b.Fatal(err)
				}
				if page, err = io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			b.ReportMetric(float64(memory(b, pid, "VmHWM")-before)/float64(page), "peak-bytes/byte")
			b.ReportMetric(float64(page)/1e6, "page-MB")
		})
	}
}

// memory reads a line of /proc/PID/status, in bytes.
func memory(b *testing.B, pid int, key string) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip("needs /proc") // on other systems
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, key+": %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	b.Fatal("no " + key)
	return 0
}
