// Package profile pushes profiles of its own process to a Pyroscope server.
package profile

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"runtime/pprof"
	"strconv"
	"time"
)

const (
	profileEvery   = 15 * time.Second
	profileTimeout = 10 * time.Second
	profileHz      = 100
)

// ErrURL is why [New] refuses a server.
var ErrURL = errors.New("is no URL: write http://host:4040")

// Pusher pushes CPU, memory in use and goroutines every 15 s. It is the little of
// pyroscope-go that this needs; the library is 0.95 MiB of binary. Make one with
// [New], and Run it.
//
// The protocol is a POST of a pprof profile in a multipart form to /ingest, whose
// query says what the profile covers.
// https://grafana.com/docs/pyroscope/latest/reference-server-api/#ingestion
type Pusher struct {
	url    *url.URL // nil: off
	name   string
	every  time.Duration
	log    *slog.Logger
	failed bool // the last push did, and was logged
}

// profileKind is a profile with what the server is to make of it.
type profileKind struct {
	name, types, units, aggregation string
}

var (
	cpuProfile       = profileKind{"cpu", `{"samples":{"units":"samples","display-name":"cpu","sampled":true}}`, "samples", "sum"}
	heapProfile      = profileKind{"heap", `{"inuse_objects":{"units":"objects","aggregation":"average"},"inuse_space":{"units":"bytes","aggregation":"average"}}`, "", ""}
	goroutineProfile = profileKind{"goroutine", `{"goroutine":{"display-name":"goroutines","units":"goroutines","aggregation":"average"}}`, "goroutines", "average"}
)

// New returns a pusher to a server, under the name of a program and with the label
// pod unless that is empty. Without a server it does nothing. User and password may
// be in the URL. The error is [ErrURL].
func New(server, program, pod string, log *slog.Logger) (*Pusher, error) {
	p := &Pusher{name: program, every: profileEvery, log: log}
	if server == "" {
		return p, nil
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, ErrURL
	}
	if pod != "" {
		p.name += "{pod=" + pod + "}"
	}
	p.url = u.JoinPath("ingest")
	return p, nil
}

// Run pushes until ctx ends. A server that fails is logged once, and tried again.
func (p *Pusher) Run(ctx context.Context) {
	if p.url == nil {
		return
	}
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := p.round(ctx, tick.C); err != nil && ctx.Err() == nil {
			if !p.failed {
				p.log.Warn("cannot push profiles", "err", err)
			}
			p.failed = true
			continue
		}
		p.failed = false
	}
}

// round profiles until the next tick and pushes what there is.
func (p *Pusher) round(ctx context.Context, tick <-chan time.Time) error {
	var cpu, heap, goroutines bytes.Buffer
	began := time.Now()
	if err := pprof.StartCPUProfile(&cpu); err != nil {
		return fmt.Errorf("profile CPU: %w", err)
	}
	select {
	case <-tick:
	case <-ctx.Done():
	}
	pprof.StopCPUProfile()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(
		p.push(ctx, cpuProfile, &cpu, began),
		pprof.Lookup("heap").WriteTo(&heap, 0),
		p.push(ctx, heapProfile, &heap, began),
		pprof.Lookup("goroutine").WriteTo(&goroutines, 0),
		p.push(ctx, goroutineProfile, &goroutines, began),
	)
}

// push sends one profile.
func (p *Pusher) push(ctx context.Context, kind profileKind, profile *bytes.Buffer, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, profileTimeout)
	defer cancel()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, part := range []struct {
		field, file string
		data        []byte
	}{
		{"profile", "profile.pprof", profile.Bytes()},
		{"sample_type_config", "sample_type_config.json", []byte(kind.types)},
	} {
		w, err := form.CreateFormFile(part.field, part.file)
		if err != nil {
			return err
		}
		if _, err := w.Write(part.data); err != nil {
			return err
		}
	}
	if err := form.Close(); err != nil {
		return err
	}
	u := *p.url
	u.RawQuery = url.Values{
		"name":            {p.name},
		"from":            {strconv.FormatInt(began.UnixNano(), 10)},
		"until":           {strconv.FormatInt(time.Now().UnixNano(), 10)},
		"spyName":         {"gospy"},
		"sampleRate":      {strconv.Itoa(profileHz)},
		"units":           {kind.units},
		"aggregationType": {kind.aggregation},
	}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), &body)
	if err != nil {
		return fmt.Errorf("push %s profile: %w", kind.name, err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	return p.post(ctx, kind, req)
}

// post sends one request over a connection of its own. An http.Client is
// another 0.6 MiB of binary, for what happens every 15 s.
func (p *Pusher) post(ctx context.Context, kind profileKind, req *http.Request) error {
	if pw, ok := req.URL.User.Password(); ok {
		req.SetBasicAuth(req.URL.User.Username(), pw)
	}
	conn, err := dial(ctx, req.URL)
	if err != nil {
		return fmt.Errorf("push %s profile: %w", kind.name, err)
	}
	defer func() { _ = conn.Close() }() // the answer is read, or nobody wants it
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req.Close = true
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("push %s profile: send: %w", kind.name, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	if err != nil {
		return fmt.Errorf("push %s profile: read the answer: %w", kind.name, err)
	}
	said, _ := io.ReadAll(io.LimitReader(res.Body, maxSaid)) // only for the message below
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("push %s profile: %s: %q", kind.name, res.Status, said)
	}
	return nil
}

const (
	maxAnswer = 64 << 10 // of an answer with its header
	maxSaid   = 200      // of what an error shows of it
)

func dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if u.Scheme == "https" {
		return new(tls.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(port, "443")))
	}
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(port, "80")))
}
