package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a listener in memory, so that fake time passes.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipe) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

func TestRequestsAreFinishedWithinTheDeadline(t *testing.T) {
	for _, test := range []struct {
		name     string
		deadline time.Duration
		body     string
		fails    bool
	}{
		{"a request that is in time is answered", 8 * time.Second, "hello, at last\n", false},
		{"a request that is late is cut off", time.Second, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, term := context.WithCancel(t.Context())
				listener := &pipe{conns: make(chan net.Conn), done: make(chan struct{})}
				served := make(chan error, 1)
				go func() {
					served <- serve(ctx, slog.New(slog.DiscardHandler), listener, test.deadline)
				}()
				client := http.Client{Transport: &http.Transport{DialContext: listener.dial, DisableKeepAlives: true}}
				body := make(chan string, 1)
				go func() {
					response, err := client.Get("http://hello/slow")
					if err != nil {
						body <- ""
						return
					}
					defer response.Body.Close()
					text, _ := io.ReadAll(response.Body)
					body <- string(text)
				}()
				synctest.Wait() // the request is in its handler
				term()
				if got := <-body; got != test.body {
					t.Errorf("body %q, want %q", got, test.body)
				}
				if err := <-served; (err != nil) != test.fails {
					t.Errorf("serve returned %v", err)
				}
			})
		})
	}
}
