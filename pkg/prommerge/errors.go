package prommerge

import (
	"context"
	"errors"
	"net"
	"os"
)

// Reasons why a target has no part in a page, as they stand in prommerge_target_errors_total.
const (
	reasonTimeout     = "timeout"      // no complete answer before the deadline
	reasonCanceled    = "canceled"     // the scraper left
	reasonConnect     = "connect"      // no connection
	reasonStatus      = "status"       // not 200, or redirects to another host or without end
	reasonContentType = "content_type" // not a format of metrics
	reasonEncoding    = "encoding"     // a broken or unknown Content-Encoding
	reasonTooLarge    = "too_large"    // over a limit
	reasonTruncated   = "truncated"    // the body ended too early
	reasonSyntax      = "syntax"       // Prometheus would refuse the page
	reasonConvert     = "convert"      // cannot be said in the format that all targets have in common
	reasonRead        = "read"         // any other error while reading
)

// targetError is an error of one target with its reason.
type targetError struct {
	reason string
	err    error
}

func (e *targetError) Error() string { return e.reason + ": " + e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }

// asSyntax returns err as a reason to refuse a page, unless it has one already.
func asSyntax(err error) error {
	var te *targetError
	if errors.As(err, &te) {
		return te
	}
	return &targetError{reason: reasonSyntax, err: err}
}

// reasonOf classifies err, which otherwise counts as fallback.
func reasonOf(ctx context.Context, err error, fallback string) string {
	var te *targetError
	var ne net.Error
	switch {
	case errors.As(err, &te):
		return te.reason
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(ctx.Err(), context.DeadlineExceeded):
		return reasonTimeout
	case errors.Is(err, context.Canceled), ctx.Err() != nil:
		return reasonCanceled
	case errors.As(err, &ne) && ne.Timeout():
		return reasonTimeout
	}
	return fallback
}
