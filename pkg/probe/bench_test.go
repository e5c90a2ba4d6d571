package probe

import (
	"context"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// benchServer answers in as little time as a server can, so that what is
// measured is the prober.
func benchServer(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := conn.Read(buf); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nok")
			}
			conn.Close()
		}
	}()
	b.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// cpu is what the process, server included, used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func bench(b *testing.B, p Probe) {
	b.Helper()
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if err := p.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "µs-cpu/op")
}

func BenchmarkHTTP(b *testing.B) {
	p, err := HTTP(HTTPConfig{URL: "http://" + benchServer(b) + "/healthz"})
	if err != nil {
		b.Fatal(err)
	}
	bench(b, p)
}

// BenchmarkNetHTTP is the same check by a http.Client, for comparison.
func BenchmarkNetHTTP(b *testing.B) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	req, err := http.NewRequest(http.MethodGet, "http://"+benchServer(b)+"/healthz", nil)
	if err != nil {
		b.Fatal(err)
	}
	bench(b, Func(func(ctx context.Context) error {
		resp, err := client.Do(req.WithContext(ctx))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
		return err
	}))
}

func BenchmarkTCP(b *testing.B) { bench(b, TCP(benchServer(b))) }

func BenchmarkFile(b *testing.B) { bench(b, File(b.TempDir())) }
