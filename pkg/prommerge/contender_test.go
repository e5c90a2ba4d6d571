package prommerge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// fetcher is what both other ways have in common with prommerge: 100 requests at a time on kept connections.
type fetcher struct {
	client *http.Client
	urls   []string
	accept string
	bodies sync.Pool
}

func newFetcher(targets []prommerge.Target, wire string) *fetcher {
	f := &fetcher{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: 5 * time.Minute, DisableCompression: true}},
		accept: typeOf(wire), bodies: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
	for i := range targets {
		f.urls = append(f.urls, targets[i].URL)
	}
	return f
}

// all returns all pages.
func (f *fetcher) all(ctx context.Context) []*bytes.Buffer {
	out := make([]*bytes.Buffer, len(f.urls))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(100, len(f.urls)) {
		wg.Go(func() {
			for i := range next {
				out[i] = f.one(ctx, f.urls[i])
			}
		})
	}
	for i := range f.urls {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

func (f *fetcher) one(ctx context.Context, url string) *bytes.Buffer {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Accept", f.accept)
	resp, err := f.client.Do(req)
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
	return buf
}

// byConcatenating writes the pages back as they came: the limit.
func byConcatenating(targets []prommerge.Target, wire string) http.Handler {
	f := newFetcher(targets, wire)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bodies, n := f.all(r.Context()), 0
		for _, b := range bodies {
			n += b.Len()
		}
		w.Header().Set("Content-Type", f.accept)
		w.Header().Set("Content-Length", strconv.Itoa(n))
		for _, b := range bodies {
			_, _ = w.Write(b.Bytes())
			f.bodies.Put(b)
		}
	})
}

// byDecoding decodes, merges and encodes with prometheus/common.
func byDecoding(targets []prommerge.Target, wire string) http.Handler {
	f := newFetcher(targets, wire)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", f.accept)
		bodies := f.all(r.Context())
		pages := make([][]byte, len(bodies))
		for i, b := range bodies {
			pages[i] = b.Bytes()
		}
		decodeMergeEncode(w, pages, wire)
		for _, b := range bodies {
			f.bodies.Put(b)
		}
	})
}

func decodeMergeEncode(w io.Writer, pages [][]byte, wire string) {
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	if wire == "proto" {
		format = expfmt.NewFormat(expfmt.TypeProtoDelim)
	}
	families := map[string]*dto.MetricFamily{}
	label := model.LabelName(prommerge.LabelName)
	for i, page := range pages {
		dec := expfmt.NewDecoder(bytes.NewReader(page), format)
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
	}
	enc := expfmt.NewEncoder(w, format)
	for _, mf := range families {
		if err := enc.Encode(mf); err != nil {
			panic(err)
		}
	}
}
