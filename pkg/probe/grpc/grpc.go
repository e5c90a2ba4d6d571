// Package grpc asks a server how it is by the health checking protocol of gRPC.
//
// A check is one call of grpc.health.v1.Health/Check over HTTP/2 without TLS,
// on a connection of its own, as the kubelet's grpc handler makes it (Kubernetes
// 1.37, pkg/probe/grpc). Request and answer hold one field each, so both are
// written and read here; grpc-go would cost 6 MiB of binary.
//
//	request  HealthCheckRequest  { string service = 1 }
//	answer   HealthCheckResponse { enum status = 1 }: 1 is SERVING
//
// Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and
// PROTOCOL-HTTP2.md beside it.
package grpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

const (
	method = "/grpc.health.v1.Health/Check"

	maxAnswer = 4 << 10 // bytes; an answer has two, and may have fields that we do not know
	maxHeader = 64 << 10

	prefix = 5 // of each message: one byte of flags, four of length

	// Of google.golang.org/grpc/codes.
	codeUnimplemented = 12
	codeNotFound      = 5
)

// Config is what to ask.
type Config struct {
	Addr    string // host:port
	Service string // "": the server as a whole
	Version string // of us, for the User-Agent
}

// Health passes when the server says that the service is SERVING.
func Health(c Config) probe.Probe {
	p := &health{Config: c, doing: "ask " + probe.Excerpt(c.Addr, 200) + " for its health"}
	if c.Service != "" {
		p.doing += fmt.Sprintf(" (service %q)", probe.Excerpt(c.Service, 80))
	}
	p.message = request(c.Service)
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true)
	p.transport = &http.Transport{
		DialContext:            func(ctx context.Context, _, addr string) (net.Conn, error) { return probe.Dial(ctx, addr) },
		Protocols:              &plain,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	return p
}

type health struct {
	Config
	doing     string
	message   []byte
	transport *http.Transport
}

// Check calls the server once.
func (p *health) Check(ctx context.Context) error {
	start := time.Now()
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           &url.URL{Scheme: "http", Host: p.Addr, Path: method},
		Host:          p.Addr,
		Header:        p.header(ctx),
		Body:          io.NopCloser(bytes.NewReader(p.message)),
		ContentLength: int64(len(p.message)),
	}
	resp, err := p.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return probe.Broken(ctx, p.doing, notHTTP2(err), start, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return probe.Broken(ctx, p.doing, "", start, err)
	}
	if why := verdict(resp, body); why != "" {
		return probe.Failed(p.doing + ": " + why)
	}
	return nil
}

// notHTTP2 is the text for a server that speaks something else, or "".
func notHTTP2(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return ""
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it closed the connection, so it may not speak gRPC without TLS"
	}
	return ""
}

func (p *health) header(ctx context.Context) http.Header {
	h := http.Header{
		"Content-Type": {"application/grpc"},
		"Te":           {"trailers"},
		"User-Agent":   {"process-wrapper-probe/" + p.Version},
	}
	if d, ok := ctx.Deadline(); ok {
		// At most 8 digits: 27 hours in milliseconds.
		ms := min(max(time.Until(d).Milliseconds(), 1), 99_999_999)
		h["Grpc-Timeout"] = []string{strconv.FormatInt(ms, 10) + "m"}
	}
	return h
}

// request is a framed HealthCheckRequest.
func request(service string) []byte {
	var message []byte
	if service != "" {
		message = append(message, 1<<3|2)
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	framed := make([]byte, prefix, prefix+len(message))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return append(framed, message...)
}

// verdict says why an answer is no pass, or "".
func verdict(resp *http.Response, body []byte) string {
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("HTTP status %d: it does not serve gRPC here", resp.StatusCode)
	}
	code, said := outcome(resp)
	switch {
	case code == "":
		return "the answer has no grpc-status: it does not serve gRPC here"
	case code != "0":
		return refusal(code, said)
	}
	n, err := status(body)
	switch {
	case err != nil:
		return err.Error()
	case n != serving:
		return "it says " + statusName(n)
	}
	return ""
}

// outcome finds status and message of a call: in the trailer or, where there is
// no message, in the header.
func outcome(resp *http.Response) (code, said string) {
	for _, h := range []http.Header{resp.Trailer, resp.Header} {
		if code = h.Get("Grpc-Status"); code != "" {
			said, err := url.PathUnescape(h.Get("Grpc-Message"))
			if err != nil {
				said = h.Get("Grpc-Message")
			}
			return code, said
		}
	}
	return "", ""
}

func refusal(code, said string) string {
	n, _ := strconv.Atoi(code)
	switch n {
	case codeUnimplemented:
		return "it does not implement grpc.health.v1.Health"
	case codeNotFound:
		return "it does not know the service"
	}
	text := "grpc-status " + probe.Excerpt(code, 10)
	if said != "" {
		text += ": " + probe.Excerpt(said, 120)
	}
	return text
}

// serving is the one good ServingStatus.
const serving = 1

func statusName(n uint64) string {
	switch n {
	case 0:
		return "UNKNOWN"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return "status " + strconv.FormatUint(n, 10)
}

var errGarbled = errors.New("the answer is no HealthCheckResponse")

// status reads a framed HealthCheckResponse. Its field is 0 where it is absent;
// the last one counts; unknown fields are skipped.
func status(body []byte) (uint64, error) {
	if len(body) < prefix {
		return 0, errGarbled
	}
	if body[0] != 0 {
		return 0, errors.New("the answer is compressed, which was not asked for")
	}
	n := binary.BigEndian.Uint32(body[1:prefix])
	message := body[prefix:]
	if uint64(n) != uint64(len(message)) {
		return 0, errGarbled
	}
	var found uint64
	for len(message) > 0 {
		tag, rest, ok := uvarint(message)
		if !ok {
			return 0, errGarbled
		}
		value, rest, ok := field(tag, rest)
		if !ok {
			return 0, errGarbled
		}
		if tag == 1<<3 {
			found = value
		}
		message = rest
	}
	return found, nil
}

// field reads what follows a tag: the number of a varint, else 0.
func field(tag uint64, b []byte) (value uint64, rest []byte, ok bool) {
	size := uint64(0)
	switch tag & 7 {
	case 0:
		return uvarint(b)
	case 1:
		size = 8
	case 2:
		if size, b, ok = uvarint(b); !ok {
			return 0, nil, false
		}
	case 5:
		size = 4
	default:
		return 0, nil, false
	}
	if size > uint64(len(b)) {
		return 0, nil, false
	}
	return 0, b[size:], true
}

func uvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
