package main

import (
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// encodings are the ways to compress an answer, at their fastest: a page is read once.
func encodings() []prommerge.Encoding {
	gz := &sync.Pool{New: func() any {
		z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is valid
		return z
	}}
	zs := &sync.Pool{New: func() any {
		z, _ := zstd.NewWriter(io.Discard, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)) // as above
		return z
	}}
	return []prommerge.Encoding{
		{Name: "zstd", New: func(w io.Writer) io.WriteCloser { return pooled(zs, w) }},
		{Name: "gzip", New: func(w io.Writer) io.WriteCloser { return pooled(gz, w) }},
	}
}

// compressor is what gzip and zstd writers have in common.
type compressor interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// pooledWriter gives its compressor back when it is closed.
type pooledWriter struct {
	compressor
	pool *sync.Pool
}

func pooled(pool *sync.Pool, w io.Writer) io.WriteCloser {
	c := pool.Get().(compressor)
	c.Reset(w)
	return &pooledWriter{c, pool}
}

func (p *pooledWriter) Close() error {
	err := p.compressor.Close()
	p.compressor.Reset(nil)
	p.pool.Put(p.compressor)
	return err
}
