package prommerge_test

import (
	"context"
	"fmt"
	"io"
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

func pageSets() []pageSet {
	var nodes [][]byte
	for i := range 100 {
		nodes = append(nodes, nodePage(uint64(i)))
	}
	kube := [][]byte{kubePage(1, 2015), kubePage(2, 2015)}
	return []pageSet{{"node×10", 10, nodes}, {"node×100", 100, nodes}, {"node×1000", 1000, nodes},
		{"kube×1", 1, kube}, {"kube×10", 10, kube}}
}

func (s pageSet) opened(contentType string) []prommerge.Target {
	var ts []prommerge.Target
	for i := range s.n {
		ts = append(ts, opened(fmt.Sprintf("p%d", i), contentType, s.pages[i%len(s.pages)]))
	}
	return ts
}

// BenchmarkMemory merges pages that need no network.
func BenchmarkMemory(b *testing.B) {
	for _, s := range pageSets() {
		b.Run(s.name, func(b *testing.B) {
			m := prommerge.New(prommerge.Options{Sort: true})
			ts := s.opened(textType)
			b.SetBytes(s.bytes())
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				p := m.Gather(context.Background(), "", ts)
				if _, err := p.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
				p.Close()
			}
			b.ReportMetric(float64(s.bytes())*float64(b.N)/1e6/(cpuTime()-cpu).Seconds(), "MB/cpu-s")
		})
	}
}
