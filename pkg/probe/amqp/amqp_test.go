package amqp

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestURLFillsUserAndPasswordIn(t *testing.T) {
	for name, c := range map[string]struct{ template, user, pass, want, err string }{
		"the default":                          {"amqp://%v:%v@localhost:5673", "guest", "guest", "amqp://guest:guest@localhost:5673", ""},
		"a virtual host with an escaped slash": {"amqps://%s:%s@[::1]:5671/a%2fb", "u", "p", "amqps://u:p@[::1]:5671/a%2fb", ""},
		"characters that a URL reserves":       {"amqp://%v:%v@h/", "a@b", "p/ :?#%v", "amqp://a%40b:p%2F%20%3A%3F%23%25v@h/", ""},
		"no place for them":                    {"amqp://h/v", "u", "p", "amqp://h/v", ""},
		"a place for the user alone":           {"amqp://%v@h/v", "u", "p", "amqp://u@h/v", ""},
		"a third place":                        {"amqp://%v:%v@%v/", "u", "p", "", "more than two %v"},
		"another scheme":                       {"http://%v:%v@h/", "u", "s3cret", "", `scheme "http": wants amqp or amqps`},
		"no host":                              {"amqp:5672", "u", "p", "", "not of the form"},
		"not a URL":                            {"amqp://%v:%v@h:port", "u", "s3cret", "", "not of the form"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := URL(c.template, c.user, c.pass)
			if got != c.want || (err == nil) != (c.err == "") {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("error %q, want %q", err, c.err)
			}
		})
	}
}

func TestBrokersThatDoNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	source := func() (string, error) { return "amqp://u:s3cret@" + l.Addr().String() + "/v", nil }
	for _, reuse := range []bool{false, true} {
		p := New(Config{Source: source, Reuse: reuse})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := p.Check(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "/v: timed out after") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a broker that hangs, reuse %v: %v", reuse, err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := p.Check(ctx); !errors.Is(err, probe.ErrInconclusive) {
			t.Errorf("cancelled, reuse %v: %v", reuse, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := New(Config{Source: source}).Check(ctx); err == nil || !strings.HasSuffix(err.Error(), "/v: connection refused") {
		t.Errorf("nobody listens: %v", err)
	}
	broken := New(Config{Source: func() (string, error) { return "", errors.New("the template is wrong") }})
	if err := broken.Check(ctx); err == nil || err.Error() != "the template is wrong" {
		t.Errorf("no source: %v", err)
	}
}

func TestAServerOfSomethingElseIsAFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		conn.Close()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = New(Config{Source: func() (string, error) { return "amqp://" + l.Addr().String(), nil }}).Check(ctx)
	if err == nil || probe.Passed(err) || errors.Is(err, probe.ErrInconclusive) {
		t.Errorf("got %v", err)
	}
	<-done
}
