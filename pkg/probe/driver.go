package probe

import (
	"context"
	"errors"
	"net"
	"time"
)

// Broken is the verdict of a probe that lives in a package of its own: why
// what was doing, "verb noun", did not get done by ctx's end. text is safe to
// show; "" takes what err itself says, without its addresses.
func Broken(ctx context.Context, doing, text string, start time.Time, err error) error {
	err = broken(ctx, doing, start, err)
	var f *failure
	if text != "" && errors.As(err, &f) && !errors.Is(err, ErrInconclusive) && !errors.Is(err, context.DeadlineExceeded) {
		f.text = doing + ": " + text
	}
	return err
}

// Failed is a failure with a text that is safe to show. It is made one line.
func Failed(text string) error { return &failure{text: excerpt(text, 300)} }

// Excerpt makes text one printable line of at most limit runes, and says with
// an ellipsis that there is more.
func Excerpt(text string, limit int) string { return excerpt(text, limit) }

// Dial connects to addr, "host:port", before ctx ends. The host "localhost", or
// none, is both loopback addresses, without a look-up.
func Dial(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr) }

// Interrupt makes every call on conn return when ctx ends, until the function
// that it returns is called.
func Interrupt(ctx context.Context, conn net.Conn) (release func()) { return interrupt(ctx, conn) }
