package metadata

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The modes of a fault.
const (
	modeSlow      = "latency"   // the right answer, late
	modeStatus    = "status"    // an error page
	modeHang      = "hang"      // no answer
	modeReset     = "reset"     // a TCP reset instead of the answer
	modeTruncate  = "truncate"  // the right headers, half of the body, the end
	modeSlowloris = "slowloris" // the right answer, one byte at a time
	modeGarbage   = "garbage"   // 200 with bytes that mean nothing
	modeBadHTTP   = "badhttp"   // bytes that are no HTTP
	modeRefuse    = "refuse"    // the port is closed
	modeNoWait    = "nowait"    // the right answer at once, even to those who wait for a change
)

var modes = []string{modeSlow, modeStatus, modeHang, modeReset, modeTruncate, modeSlowloris, modeGarbage, modeBadHTTP, modeRefuse, modeNoWait}

// maxFaults bounds how many are in force at the same time.
const maxFaults = 100

// Fault is something that goes wrong. [ParseFault] makes one from text.
type Fault struct {
	Mode        string        // see ParseFault
	Path        string        // prefix of the paths that it concerns; "" for all
	Status      int           // of mode status
	RetryAfter  time.Duration // header of mode status, whole seconds; 0: none
	Latency     time.Duration // before anything else is done
	Interval    time.Duration // between two bytes of mode slowloris; 0: 1s
	Count       int           // how many requests it concerns; 0: any
	For         time.Duration // how long it lasts; 0: until it is cleared
	Probability float64       // from 0 to 1; 0 is 1
	Flap        time.Duration // in force for that long, then not for that long, and so on; 0: steadily
}

// ParseFault makes a fault from its fields as text:
//
//	mode         latency, status, hang, reset, truncate, slowloris, garbage (200 with noise),
//	             badhttp (noise that is no HTTP), refuse (the port is closed), nowait (waiters are
//	             answered at once); may be left out with status or latency
//	path         a prefix: /latest/api/token; without a slash in front it is below /computeMetadata/v1/
//	status       400 to 599
//	retryAfter, latency, interval, for, flap    durations such as 500ms
//	count        a number of requests
//	probability  above 0, at most 1
func ParseFault(fields map[string]string) (Fault, error) {
	var f Fault
	known := map[string]func(string) error{
		"mode":        func(v string) error { f.Mode = v; return nil },
		"path":        func(v string) error { f.Path = v; return nil },
		"status":      func(v string) error { return parseInt(&f.Status, v, 400, 599) },
		"count":       func(v string) error { return parseInt(&f.Count, v, 1, 1_000_000_000) },
		"retryAfter":  func(v string) error { return parseDuration(&f.RetryAfter, v) },
		"latency":     func(v string) error { return parseDuration(&f.Latency, v) },
		"interval":    func(v string) error { return parseDuration(&f.Interval, v) },
		"for":         func(v string) error { return parseDuration(&f.For, v) },
		"flap":        func(v string) error { return parseDuration(&f.Flap, v) },
		"probability": func(v string) error { return parseProbability(&f.Probability, v) },
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		set := known[name]
		if set == nil {
			return f, fmt.Errorf("fault: unknown field %q: use %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := set(fields[name]); err != nil {
			return f, fmt.Errorf("fault: %s is %w", name, err)
		}
	}
	return f.complete()
}

// complete fills the mode in and checks that the fields fit each other.
func (f Fault) complete() (Fault, error) {
	switch {
	case f.Mode != "":
	case f.Status != 0:
		f.Mode = modeStatus
	case f.Latency != 0:
		f.Mode = modeSlow
	}
	if f.Path != "" && f.Path[0] != '/' {
		f.Path = gceBase + "/" + f.Path
	}
	return f, f.check()
}

// check says what does not fit.
func (f Fault) check() error {
	everywhere := f.Path == "" && f.Count == 0 && f.Probability == 0 && f.Latency == 0
	switch {
	case !slices.Contains(modes, f.Mode):
		return fmt.Errorf("fault: mode is %q: use %s", f.Mode, strings.Join(modes, ", "))
	case f.Mode == modeStatus && f.Status == 0:
		return errors.New("fault: mode status needs a status such as 503")
	case f.Mode != modeStatus && f.Status != 0:
		return fmt.Errorf("fault: a status does not go with mode %s", f.Mode)
	case f.Mode == modeSlow && f.Latency == 0:
		return errors.New("fault: mode latency needs a latency such as 2s")
	case f.Mode == modeRefuse && !everywhere:
		return errors.New("fault: mode refuse closes the port, so it has no path, count, probability or latency: use for or flap, or mode reset")
	}
	return nil
}

func parseInt(to *int, text string, low, high int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return fmt.Errorf("%q: use a number from %d to %d", text, low, high)
	}
	*to = n
	return nil
}

func parseDuration(to *time.Duration, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q: use a duration such as 500ms or 10s", text)
	}
	*to = d
	return nil
}

func parseProbability(to *float64, text string) error {
	p, err := strconv.ParseFloat(text, 64)
	if err != nil || !(p > 0 && p <= 1) {
		return fmt.Errorf("%q: use a number above 0 and at most 1", text)
	}
	*to = p
	return nil
}

// String writes f as ctl takes it.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Mode)
	add := func(name string, value any, zero bool) {
		if !zero {
			fmt.Fprintf(&b, " %s=%v", name, value)
		}
	}
	add("status", f.Status, f.Status == 0)
	add("path", f.Path, f.Path == "")
	add("latency", f.Latency, f.Latency == 0)
	add("interval", f.Interval, f.Interval == 0)
	add("retryAfter", f.RetryAfter, f.RetryAfter == 0)
	add("count", f.Count, f.Count == 0)
	add("for", f.For, f.For == 0)
	add("flap", f.Flap, f.Flap == 0)
	add("probability", f.Probability, f.Probability == 0)
	return b.String()
}

// An activeFault is one that was set.
type activeFault struct {
	Fault
	since  time.Time
	left   int             // of Count
	users  int             // requests that it concerns now
	ctx    context.Context // ends when the fault does
	cancel context.CancelFunc
}

// on tells if f is in force, and how long that stays so; 0 is for ever.
func (f *activeFault) on(now time.Time) (on bool, left time.Duration) {
	age := now.Sub(f.since)
	if f.For > 0 {
		if age >= f.For {
			return false, 0
		}
		left = f.For - age
	}
	if f.Flap == 0 {
		return true, left
	}
	turn := f.Flap - age%f.Flap
	if left == 0 || turn < left {
		left = turn
	}
	return age/f.Flap%2 == 0, left
}

// Inject puts a fault in force. The first one that concerns a request decides its answer.
func (s *Server) Inject(f Fault) error {
	f, err := f.complete()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune(time.Now())
	if len(s.faults) >= maxFaults {
		return fmt.Errorf("fault: %d are in force already: clear them first", maxFaults)
	}
	a := &activeFault{Fault: f, since: time.Now(), left: f.Count}
	if f.For > 0 {
		a.ctx, a.cancel = context.WithTimeout(s.ctx, f.For)
	} else {
		a.ctx, a.cancel = context.WithCancel(s.ctx)
	}
	s.faults = append(s.faults, a)
	s.config.Logger.Info("fault set", "fault", f.String())
	s.stir()
	return nil
}

// ClearFaults ends all faults. A request that hangs is cut.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropFaults()
	s.config.Logger.Info("faults cleared")
	s.stir()
}

func (s *Server) dropFaults() {
	for _, f := range s.faults {
		f.cancel()
	}
	s.faults = nil
}

// prune forgets faults that are over.
func (s *Server) prune(now time.Time) {
	s.faults = slices.DeleteFunc(s.faults, func(f *activeFault) bool {
		over := f.For > 0 && now.Sub(f.since) >= f.For || f.Count > 0 && f.left == 0 && f.users == 0
		if over {
			f.cancel()
		}
		return over
	})
}

// pick returns the fault for a request, or nil.
func (s *Server) pick(path string) *activeFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.prune(now)
	for _, f := range s.faults {
		on, _ := f.on(now)
		if !on || !strings.HasPrefix(path, f.Path) || f.Count > 0 && f.left == 0 {
			continue
		}
		if f.Probability > 0 && s.random.Float64() >= f.Probability {
			continue
		}
		f.left--
		f.users++
		s.stats.faults[f.Mode]++
		return f
	}
	return nil
}

// refusing tells if the port has to be closed, for how long that stays so (0: until something
// changes), and what is closed when something changes.
func (s *Server) refusing() (refuse bool, left time.Duration, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, f := range s.faults {
		if f.Mode != modeRefuse {
			continue
		}
		on, until := f.on(now)
		if until > 0 && (left == 0 || until < left) {
			left = until
		}
		refuse = refuse || on
	}
	return refuse, left, s.stirred()
}

// inject answers a request as the fault says.
func (s *Server) inject(f *activeFault, w http.ResponseWriter, r *http.Request) {
	if f == nil {
		s.serve(w, r, false)
		return
	}
	if f.Latency > 0 && !f.pause(r.Context(), f.Latency) {
		panic(http.ErrAbortHandler)
	}
	switch f.Mode {
	case modeSlow:
		s.serve(w, r, false)
	case modeNoWait:
		s.serve(w, r, true)
	case modeStatus:
		s.serveStatus(f, w, r)
	case modeHang:
		f.pause(r.Context(), 0)
		panic(http.ErrAbortHandler)
	case modeTruncate:
		s.truncate(w, r)
	case modeSlowloris:
		s.drip(f, w, r)
	case modeGarbage:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(s.noise(512))
		return
	case modeBadHTTP:
		s.scribble(w)
	default:
		reset(w)
	}
}

// pause waits for d, or, if d is 0, without end. It tells if the request goes on.
func (f *activeFault) pause(ctx context.Context, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	case <-f.ctx.Done():
		return d > 0 // the latency is over with its fault
	}
}
