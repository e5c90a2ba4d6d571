// Package probe asks one question of a process: is it healthy?
//
// The answer is an error, so that it carries its reason:
//
//	nil                              passed
//	*[Warning]                       passed, with a remark
//	errors.Is(err, ErrInconclusive)  the prober could not tell; nothing changes
//	any other error                  failed
//
// A check that ctx's deadline ends has failed, one that is cancelled is
// inconclusive. Every check needs a deadline from its caller; none has its own.
// Error texts are one short line that names the target. They hold no
// credentials, header or environment values, and of what the target says at
// most an excerpt.
//
// HTTP checks give the verdicts of the kubelet's httpGet handler, as of
// Kubernetes 1.37 (pkg/probe/http).
package probe

import (
	"context"
	"errors"
	"strings"
	"sync"
)

// ErrInconclusive marks a check that failed for the prober's own reasons. It
// counts neither as passed nor as failed.
var ErrInconclusive = errors.New("inconclusive")

// A Probe checks health. Check returns when it knows, or soon after ctx ends.
type Probe interface {
	Check(ctx context.Context) error
}

// Func adapts a function to a [Probe].
type Func func(ctx context.Context) error

// Check calls f.
func (f Func) Check(ctx context.Context) error { return f(ctx) }

// A Warning is the remark of a check that passed.
type Warning struct {
	Target string // what was checked
	Text   string // what is odd about it
}

// Error returns the remark with its target.
func (w *Warning) Error() string { return w.Target + ": " + w.Text }

// Passed reports whether err, as a [Probe] returned it, is a pass. Of joined
// errors each must be one.
func Passed(err error) bool {
	if err == nil {
		return true
	}
	if joined, ok := any(err).(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !Passed(e) {
				return false
			}
		}
		return true
	}
	if _, ok := any(err).(*Warning); ok {
		return true
	}
	inner := errors.Unwrap(err)
	return inner != nil && Passed(inner)
}

// All passes when every probe does. They are checked at the same time. One
// failure is enough to fail, whatever the others say; else one inconclusive
// check makes all of it inconclusive; else warnings are put together.
func All(probes ...Probe) Probe {
	if len(probes) == 1 {
		return probes[0]
	}
	return Func(func(ctx context.Context) error {
		errs := make([]error, len(probes))
		var wg sync.WaitGroup
		for i, p := range probes {
			wg.Go(func() { errs[i] = p.Check(ctx) })
		}
		wg.Wait()
		return worst(errs)
	})
}

// worst keeps the errors of the worst verdict among errs.
func worst(errs []error) error {
	var failed, unknown []error
	var targets, remarks []string
	for _, err := range errs {
		var w *Warning
		switch {
		case err == nil:
		case Passed(err) && errors.As(err, &w):
			targets, remarks = append(targets, w.Target), append(remarks, w.Text)
		case errors.Is(err, ErrInconclusive):
			unknown = append(unknown, err)
		default:
			failed = append(failed, err)
		}
	}
	switch {
	case len(failed) > 0:
		return errors.Join(failed...)
	case len(unknown) > 0:
		return errors.Join(unknown...)
	case len(remarks) > 0:
		return &Warning{Target: strings.Join(targets, ", "), Text: strings.Join(remarks, ", ")}
	}
	return nil
}
