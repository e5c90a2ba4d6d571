package prommerge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// pageSet is what is merged in one benchmark.
type pageSet struct {
	name  string
	n     int
	pages [][]byte // used in turn
}

func (s pageSet) bytes() int64 {
	n := int64(0)
	for i := range s.n {
		n += int64(len(s.pages[i%len(s.pages)]))
	}
	return n
}

// benchPages are 100 pages of node_exporter and 2 of kube-state-metrics.
var benchPages = sync.OnceValues(func() (nodes, kube [][]byte) {
	for i := range uint64(100) {
		nodes = append(nodes, nodePage(i))
	}
	return nodes, [][]byte{kubePage(1, 2015), kubePage(2, 2015)}
})

var benchProto = sync.OnceValues(func() (nodes, kube [][]byte) {
	textNodes, textKube := benchPages()
	for _, p := range textNodes {
		nodes = append(nodes, asProto(p))
	}
	for _, p := range textKube {
		kube = append(kube, asProto(p))
	}
	return nodes, kube
})

// pageSets returns what is merged, in text or proto.
func pageSets(wire string) []pageSet {
	nodes, kube := benchPages()
	if wire == "proto" {
		nodes, kube = benchProto()
	}
	return []pageSet{{"node×10", 10, nodes}, {"node×100", 100, nodes}, {"node×1000", 1000, nodes}, {"node×2000", 2000, nodes},
		{"kube×1", 1, kube}, {"kube×10", 10, kube}}
}

func typeOf(wire string) string {
	if wire == "proto" {
		return protoType
	}
	return textType
}

// reused is a body that costs no memory.
type reused struct{ bytes.Reader }

func (*reused) Close() error { return nil }

// opened returns targets that cost nothing themselves, for one merge at a time.
func (s pageSet) opened(contentType string) []prommerge.Target {
	var ts []prommerge.Target
	for i := range s.n {
		page, body := s.pages[i%len(s.pages)], &reused{}
		ts = append(ts, prommerge.Target{Name: fmt.Sprintf("p%d", i), Open: func(context.Context, string) (io.ReadCloser, string, error) {
			body.Reset(page)
			return body, contentType, nil
		}})
	}
	return ts
}

// BenchmarkMemory merges pages that need no network.
func BenchmarkMemory(b *testing.B) {
	for _, wire := range []string{"text", "proto"} {
		for _, s := range pageSets(wire) {
			b.Run(s.name+"/"+wire, func(b *testing.B) {
				m := prommerge.New(prommerge.Options{Sort: true})
				ts := s.opened(typeOf(wire))
				b.SetBytes(s.bytes())
				b.ReportAllocs()
				for b.Loop() {
					mergeInMemory(b, m, typeOf(wire), ts)
				}
			})
		}
	}
}

// BenchmarkHTTP merges one page of node_exporter many times, over loopback and side by side. With -cpu 1 its time is the CPU
// time of client and server.
func BenchmarkHTTP(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint("node×", n), func(b *testing.B) {
			page := nodePage(1)
			ts := targetsAt(answering(b, page), n)
			m := prommerge.New(prommerge.Options{Sort: true, Async: true})
			defer m.Close()
			b.SetBytes(int64(n * len(page)))
			b.ReportAllocs()
			for b.Loop() {
				mergeInMemory(b, m, textType, ts)
			}
		})
	}
}

// targetsAt returns n targets with one URL.
func targetsAt(url string, n int) (ts []prommerge.Target) {
	for i := range n {
		ts = append(ts, prommerge.Target{Name: fmt.Sprint("p", i), URL: url})
	}
	return ts
}

func mergeInMemory(tb testing.TB, m *prommerge.Merger, accept string, ts []prommerge.Target) {
	p := m.Gather(context.Background(), accept, ts)
	defer p.Close()
	if _, err := p.WriteTo(io.Discard); err != nil || !p.Results()[0].Up {
		tb.Fatal(err, p.Results()[0].Err)
	}
}
