package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxHead    = 1 << 20  // bytes of status line and header
	maxBody    = 10 << 10 // bytes of body, as the kubelet reads
	maxInterim = 5        // answers before the answer, such as 103 Early Hints
)

// answer is what a check needs of a response. status is 0 until its header is
// complete.
type answer struct {
	status   int
	location string
	excerpt  []byte // how the body of an error begins, where that is text
}

// redirects reports whether the answer asks for another request.
func (a *answer) redirects() bool {
	switch a.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return a.location != ""
	}
	return false
}

// exchange sends one request over a connection of its own. It uses net/http for
// the format only: a http.Transport costs two goroutines and three times the
// allocations for what is never used twice.
func (h *httpProbe) exchange(ctx context.Context, u *url.URL, request []byte, a *answer) error {
	*a = answer{}
	p := u.Port()
	if p == "" {
		p = port(u.Scheme, 0)
	}
	conn, err := dial(ctx, net.JoinHostPort(u.Hostname(), p))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be lost
	defer interrupt(ctx, conn)()
	if u.Scheme == "https" {
		tc := tls.Client(conn, h.tls)
		if err := tc.Handshake(); err != nil { // interrupt ends it
			return err
		}
		conn = tc
	}
	_, sendErr := conn.Write(request)
	// An answer may come before the request was read, and the connection be
	// closed after it: the answer counts.
	err = receive(conn, a)
	if err != nil && a.status == 0 && sendErr != nil && !isTimeout(err) {
		return sendErr
	}
	return err
}

// interrupt makes every call on conn return when ctx ends, until the function
// that it returns is called.
func interrupt(ctx context.Context, conn net.Conn) func() {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// receive reads a response.
func receive(conn net.Conn, a *answer) error {
	limit := &io.LimitedReader{R: conn, N: maxHead}
	br := bufio.NewReaderSize(limit, 2<<10)
	if err := expectHTTP(br); err != nil {
		return err
	}
	var resp *http.Response
	for interim := 0; ; interim++ {
		var err error
		resp, err = http.ReadResponse(br, nil) //nolint:bodyclose // see read
		if err != nil {
			return headError(err, limit)
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		if interim == maxInterim {
			return errors.New("too many 1xx answers")
		}
	}
	a.status, a.location = resp.StatusCode, resp.Header.Get("Location")
	limit.N = maxHead
	return a.read(resp)
}

// read reads the body as far as it matters. It does not close it, which would
// read it to its end, however far that is: the connection is closed instead.
func (a *answer) read(resp *http.Response) error {
	if a.redirects() {
		// Read so that the peer sees an orderly end. Nobody needs it whole.
		_, _ = io.CopyN(io.Discard, resp.Body, 2<<10)
		return nil
	}
	body := io.LimitReader(resp.Body, maxBody)
	if a.status >= 400 && isText(resp.Header.Get("Content-Type")) {
		head, err := io.ReadAll(io.LimitReader(body, 320))
		if err != nil {
			return err
		}
		a.excerpt = head
	}
	_, err := io.Copy(io.Discard, body)
	return err
}

// expectHTTP looks at how the answer begins, for an error that says what came
// instead.
func expectHTTP(br *bufio.Reader) error {
	const want = "HTTP/"
	got, err := br.Peek(len(want))
	switch {
	case string(got) == want:
		return nil
	case isTimeout(err):
		return err
	case strings.HasPrefix(want, string(got)):
		return headError(err, nil)
	case got[0] == 0x15: // an alert record
		return errors.New("answer is TLS, not HTTP: is the scheme https?")
	}
	line, _ := br.Peek(br.Buffered())
	line, _, _ = bytes.Cut(line, []byte("\n"))
	return fmt.Errorf("answer is not HTTP: %q", excerpt(line, 40))
}

// headError says why there is no whole header. The texts of net/http quote the
// lines that they object to, so they are not for showing.
func headError(err error, limit *io.LimitedReader) error {
	var op *net.OpError
	switch {
	case limit != nil && limit.N <= 0:
		return fmt.Errorf("header is larger than %d KiB", maxHead>>10)
	case errors.As(err, &op) || isTimeout(err):
		return err
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed before the answer was complete")
	}
	return errors.New("header is malformed")
}

// isText reports whether a body of this type reads well in an error.
func isText(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "text/plain" || kind == "application/json" || strings.HasSuffix(kind, "+json")
}
