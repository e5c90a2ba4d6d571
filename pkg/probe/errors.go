package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// A failure has a text that is safe to show, and the cause it stands for.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// inconclusive is a failure that is not the target's.
func inconclusive(text string, cause error) error {
	return &failure{text: text, cause: errors.Join(ErrInconclusive, cause)}
}

// broken says why what was doing, "verb noun", did not get done by ctx's end.
func broken(ctx context.Context, doing string, start time.Time, err error) error {
	short := shortage(err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return inconclusive(doing+": cancelled", context.Canceled)
	case short != 0:
		return untried(doing, short.Error(), err)
	case ctx.Err() != nil || isTimeout(err):
		return timedOut(doing, start)
	default:
		return &failure{text: doing + ": " + reason(err), cause: err}
	}
}

// untried is for a check that the prober has no means to make.
func untried(doing, lacking string, err error) error {
	return inconclusive(doing+": could not be tried: "+lacking, err)
}

// shortage returns what err says that we have run out of, else 0. It says
// nothing of the target's health.
func shortage(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var dns *net.DNSError
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN} {
		// The resolver keeps no more than the text of what went wrong.
		if errors.Is(err, e) || errors.As(err, &dns) && strings.HasSuffix(dns.Err, ": "+e.Error()) {
			return e
		}
	}
	return 0
}

func timedOut(doing string, start time.Time) error {
	after := time.Since(start)
	if after >= time.Second {
		after = after.Round(100 * time.Millisecond) // the same text each time
	} else {
		after = after.Round(10 * time.Millisecond)
	}
	return &failure{text: fmt.Sprintf("%s: timed out after %v", doing, after), cause: context.DeadlineExceeded}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// reason is the shortest true account of a network error: its addresses are
// dropped, because the caller names the target.
func reason(err error) string {
	var errno syscall.Errno
	var dns *net.DNSError
	var addr *net.AddrError
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dns):
		return "look up " + excerpt(dns.Name, 80) + ": " + dns.Err
	case errors.As(err, &addr):
		return addr.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return excerpt(err.Error(), 120)
}

// ending is the excerpt of the end of text, where programs say what went wrong.
func ending(text []byte, limit int) string {
	line := []rune(excerpt(text[max(0, len(text)-8*limit):], 8*limit))
	if len(line) <= limit {
		return string(line)
	}
	return "…" + string(line[len(line)-limit:])
}

// excerpt makes text one printable line of at most limit runes, and says with
// an ellipsis that there is more.
func excerpt[T ~string | ~[]byte](text T, limit int) string {
	line := make([]byte, 0, 64)
	space, n := false, 0
	for rest := string(text[:min(len(text), 8*limit)]); rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		switch {
		case unicode.IsSpace(r):
			space = n > 0
			continue
		case unicode.IsControl(r):
			continue
		case r == utf8.RuneError || !unicode.IsPrint(r):
			r = '?'
		}
		if n >= limit {
			return string(line) + "…"
		}
		if space {
			line, space = append(line, ' '), false
			n++
		}
		line = utf8.AppendRune(line, r)
		n++
	}
	if len(text) > 8*limit {
		return string(line) + "…"
	}
	return string(line)
}
