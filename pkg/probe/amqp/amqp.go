// Package amqp asks a broker of AMQP 0-9-1, such as RabbitMQ, whether it
// serves: a connection is made to its virtual host, and a channel opened on it.
// Certificates of amqps are verified; the query of the URL may name cacertfile,
// certfile and keyfile, as the library has it.
package amqp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

const (
	heartbeat = 10 * time.Second // the library ends a kept connection after two missed
	frameSize = 128 << 10
	goodbye   = time.Second // for the broker to say that a connection is closed
)

// A Source says where the broker is, as an amqp or amqps URL. It is asked
// before each check.
type Source func() (url string, err error)

// URL fills user and password into a template such as
// amqp://%v:%v@localhost:5673/vhost. The first %v or %s is the user, the second
// the password; a template may have neither. Its errors hold no password.
func URL(template, user, password string) (string, error) {
	text := template
	for _, v := range []string{user, password} {
		i := nextVerb(text)
		if i < 0 {
			break
		}
		text = text[:i] + escape(v) + text[i+2:]
	}
	if nextVerb(text) >= 0 {
		return "", errors.New("the template of the broker's URL has more than two %v: one for the user, one for the password")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", errors.New("the template of the broker's URL is not of the form amqp://%v:%v@host:port/vhost")
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return "", fmt.Errorf("the template of the broker's URL has the scheme %q: wants amqp or amqps", probe.Excerpt(u.Scheme, 20))
	}
	return text, nil
}

// nextVerb finds %v or %s; other percent signs are escapes of the URL.
func nextVerb(text string) int {
	v, s := strings.Index(text, "%v"), strings.Index(text, "%s")
	if v < 0 || s >= 0 && s < v {
		return s
	}
	return v
}

// escape writes what may stand before the @ of a URL.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// Config is what to ask.
type Config struct {
	Source Source
	// Reuse keeps one connection for all checks. Else each makes its own.
	Reuse bool
	Name  string // of the connection, as the broker shows it
}

// Probe asks the broker. Close ends a kept connection.
type Probe struct {
	Config

	mu   sync.Mutex // held during a check
	url  string     // of kept
	kept *link
}

// New returns a probe that is not connected yet.
func New(c Config) *Probe { return &Probe{Config: c} }

// link is a connection with the socket under it, by which it can be ended when
// the broker is stuck.
type link struct {
	*amqp.Connection
	socket net.Conn
}

// Close ends the kept connection. A later check makes a new one.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	return nil
}

func (p *Probe) drop() {
	if p.kept != nil {
		p.kept.close()
		p.kept = nil
	}
}

// close says goodbye, and ends the socket where nobody answers. It returns when
// the library's goroutines know.
func (l *link) close() {
	_ = l.CloseDeadline(time.Now().Add(goodbye)) // an error means that it is closed already
	_ = l.socket.Close()
}

// Check opens a channel on a connection.
func (p *Probe) Check(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	start := time.Now()
	target, err := p.Source()
	if err != nil {
		return probe.Failed(err.Error())
	}
	if p.kept != nil && (p.kept.IsClosed() || p.url != target) {
		p.drop()
	}
	fresh := p.kept == nil
	doing := "open a channel on " + shown(target)
	if fresh {
		if p.kept, err = p.dial(ctx, target); err != nil {
			return broken(ctx, "connect to "+shown(target), start, err)
		}
		p.url = target
	}
	err = p.kept.channel(ctx)
	if err != nil || !p.Reuse {
		p.drop()
	}
	if err != nil && !fresh && ctx.Err() == nil { // it broke since the last check
		return p.again(ctx, target, start)
	}
	if err != nil {
		return broken(ctx, doing, start, err)
	}
	return nil
}

// again makes a new connection in place of one that turned out to be broken.
func (p *Probe) again(ctx context.Context, target string, start time.Time) (err error) {
	if p.kept, err = p.dial(ctx, target); err == nil {
		p.url = target
		if err = p.kept.channel(ctx); err == nil {
			return nil
		}
		p.drop()
	}
	return broken(ctx, "connect to "+shown(target), start, err)
}

// dial connects before ctx ends. The library's handshake, of TLS too, is bound by
// the deadline of the socket.
func (p *Probe) dial(ctx context.Context, target string) (*link, error) {
	l := new(link)
	var release func()
	conn, err := amqp.DialConfig(target, amqp.Config{
		Heartbeat:  heartbeat,
		FrameSize:  frameSize,
		Properties: amqp.Table{"connection_name": p.Name, "product": "process-wrapper"},
		Dial: func(_, addr string) (net.Conn, error) {
			socket, err := probe.Dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			l.socket, release = socket, probe.Interrupt(ctx, socket)
			return socket, nil
		},
	})
	if release != nil {
		release()
	}
	if err != nil {
		if l.socket != nil {
			_ = l.socket.Close() // the library has closed it, unless it never began
		}
		return nil, err
	}
	l.Connection = conn
	if err := l.socket.SetDeadline(time.Time{}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// channel opens a channel and closes it. The library's calls have no context:
// when ctx ends, the socket does, and so do they.
func (l *link) channel(ctx context.Context) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = l.socket.Close()
	})
	ch, err := l.Channel()
	if err == nil {
		err = ch.Close()
	}
	if !stop() {
		<-done
	}
	return err
}

// shown is a target without its credentials.
func shown(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "the broker"
	}
	return probe.Excerpt(u.Scheme+"://"+u.Host+u.EscapedPath(), 200)
}

// broken is the verdict of what was doing. The deadline of the socket is that of
// ctx, may come a moment earlier, and is in the library's errors a text only.
func broken(ctx context.Context, doing string, start time.Time, err error) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		if errors.Is(err, amqp.ErrCredentials) { // RabbitMQ lets a second pass before it refuses
			return probe.Failed(doing + ": no answer to the login in time; " + amqp.ErrCredentials.Reason + "?")
		}
		<-ctx.Done()
	}
	return probe.Broken(ctx, doing, reason(err), start, err)
}

// reason is what the broker says, or "" for what the network does.
func reason(err error) string {
	var file *fs.PathError
	if errors.As(err, &file) { // of a certificate
		return probe.Excerpt(file.Error(), 160)
	}
	var said *amqp.Error
	if !errors.As(err, &said) {
		return ""
	}
	if errors.Is(err, amqp.ErrCredentials) || errors.Is(err, amqp.ErrVhost) || !said.Server {
		return probe.Excerpt(said.Reason, 160)
	}
	return fmt.Sprintf("%s (%d)", probe.Excerpt(said.Reason, 160), said.Code)
}
