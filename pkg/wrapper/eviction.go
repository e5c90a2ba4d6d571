package wrapper

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/preempt"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

const (
	// countFor is how long the event preemption_count is sent, once a second.
	countFor = time.Minute
	// approveWithin is for the last request of a pod that has ended, which may have
	// to wait for a second until the metadata server is asked again.
	approveWithin = 2 * time.Second
	// drainGrace is how long the end of the pod waits for Envoy.
	drainGrace = 500 * time.Millisecond
)

// Names of events.
const (
	eventPreempted = "preempted"
	eventCount     = "preemption_count"
)

// evictionEvents gets what happens to the machine below: the name of an event
// and its reason. It must not block.
type evictionEvents func(name, reason string)

// eviction is how the pod reacts to being about to be taken away, whoever says
// so: it leaves service, starts nothing any more, drains Envoy, and, where that
// is wanted, ends.
type eviction struct {
	action string // drain, terminate or none
	board  *status.Board
	end    func(reason string) // of the pod
	back   func()              // it is in service again
	envoy  *preempt.Envoy      // nil: none
	event  evictionEvents
	log    *slog.Logger

	mu       sync.Mutex                // guards what follows
	notices  map[string]preempt.Notice // that are active, by who says so
	counting context.CancelFunc        // nil: not
	drained  bool                      // Envoy is, or is being, for good

	wg sync.WaitGroup
	// life ends with the pod. What runs for a notice has no caller to wait for it.
	life context.Context
	over context.CancelFunc
}

// ready makes what the fields above need.
func (e *eviction) ready() *eviction {
	e.notices = make(map[string]preempt.Notice)
	e.life, e.over = context.WithCancel(context.Background())
	return e
}

// current is the notice that counts: of several the one with the first
// deadline, one that has none last. The lock is held.
func (e *eviction) current() preempt.Notice {
	var first preempt.Notice
	for _, who := range sortedKeys(e.notices) {
		n := e.notices[who]
		sooner := !n.Deadline.IsZero() && (first.Deadline.IsZero() || n.Deadline.Before(first.Deadline))
		if !first.Active || sooner {
			first = n
		}
	}
	return first
}

// notice takes note of what somebody says.
func (e *eviction) notice(who string, n preempt.Notice) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.current()
	if n.Active {
		e.notices[who] = n
	} else {
		delete(e.notices, who)
	}
	switch now := e.current(); {
	case now == was:
	case !was.Active:
		e.begin(now)
	case now.Active:
		e.publish(now)
		e.log.Warn("the notice of preemption has changed", noticeArgs(now)...)
	default:
		e.publish(now)
		e.counting()
		e.log.Info("the notice of preemption is withdrawn: back in service")
		e.back()
		if e.drained {
			e.log.Warn("Envoy stays drained", "hint", "restart the pod: Envoy has no way back")
		}
	}
}

func noticeArgs(n preempt.Notice) []any {
	args := []any{"reason", n.Reason}
	if !n.Deadline.IsZero() {
		args = append(args, "deadline", n.Deadline.UTC().Format(time.RFC3339))
	}
	return args
}

// begin reacts to the first notice. What must come within moments comes first.
func (e *eviction) begin(n preempt.Notice) {
	e.publish(n)
	if e.action != actionNone && e.envoy != nil && !e.drained {
		e.drained = true
		e.wg.Go(e.drainEnvoy)
	}
	e.event(eventPreempted, n.Reason)
	var ctx context.Context
	ctx, e.counting = context.WithCancel(e.life)
	e.wg.Go(func() { e.count(ctx, n.Reason) })
	e.log.Warn("this pod is about to be taken away", append(noticeArgs(n), "action", e.action)...)
	if e.action == actionTerminate {
		e.end(n.Reason)
	}
}

// publish shows the board what is in force.
func (e *eviction) publish(n preempt.Notice) {
	if e.action == actionNone {
		return
	}
	e.board.UpdatePod(func(pod *status.Pod) {
		pod.Preempted = n.Active
		if !pod.Draining { // else there is another reason, and a deadline of our own
			pod.Reason, pod.Deadline = n.Reason, n.Deadline
		}
	})
}

// count sends an event each second, from which a rate can be made of pods that
// live too short for a metric.
func (e *eviction) count(ctx context.Context, reason string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range countFor / time.Second {
		select {
		case <-tick.C:
			e.event(eventCount, reason)
		case <-ctx.Done():
			return
		}
	}
}

func (e *eviction) drainEnvoy() {
	err := e.envoy.Drain(e.life)
	switch {
	case err == nil:
		e.log.Info("Envoy drains")
	case errors.Is(err, preempt.ErrNoEnvoy):
		e.log.Info("no Envoy to drain", "err", err, "hint", "leave -envoy-drain out where none runs, or set ENVOY_DRAIN_URL")
	default:
		e.log.Error("cannot drain Envoy", "err", err)
	}
}

// hint takes note of news that are no notice.
func (e *eviction) hint(h preempt.Hint) {
	e.log.Info("the cloud has an announcement", "kind", h.Kind, "detail", h.Detail)
	e.event(h.Kind, h.Detail)
}

// deadline is when the machine will be gone, zero where nobody knows.
func (e *eviction) deadline() time.Time { return e.state().Deadline }

func (e *eviction) state() preempt.Notice {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current()
}

// close ends what runs for a notice. Nobody calls notice any more.
func (e *eviction) close() {
	e.mu.Lock()
	if e.counting != nil {
		e.counting()
	}
	e.mu.Unlock()
	late := time.AfterFunc(drainGrace, e.over)
	defer late.Stop()
	e.wg.Wait()
	e.over()
}

// Values of -preemption-action.
const (
	actionDrain     = "drain"
	actionTerminate = "terminate"
	actionNone      = "none"
)

// evictable makes what reacts to a preemption, and what watches for one where
// that is wanted.
func (p *pod) evictable(f *flags, env *environment) error {
	e := &eviction{
		action: f.PreemptionAction, board: p.board, end: p.units.End, log: p.log,
		event: p.outbox.Pod,
		back:  func() {},
	}
	if f.ConfigWatch { // a change that came meanwhile was refused
		e.back = func() { p.askReload("-config-watch, after the preemption") }
	}
	for name, value := range map[string]string{"HANDLE_PREEMPTION": env.handlePreemption, "HANDLE_TERMINATION": env.handleTermination} {
		if unclear(value) {
			p.log.Warn("a variable is not understood, and off", "variable", name, "value", value, "hint", "write 1, true or enabled")
		}
	}
	watched := enabled(env.handlePreemption)
	if f.EnvoyDrain {
		var err error
		if e.envoy, err = preempt.NewEnvoy(env.envoyDrainURL); err != nil {
			return cli.Usagef("environment variable %w", err)
		}
		if e.envoy.Abrupt() {
			p.log.Info("ENVOY_DRAIN_URL makes Envoy stop all listeners at once, those for outgoing connections too",
				"hint", "set it to http://localhost:15000/drain_listeners?inboundonly&graceful")
		}
		if !watched && !enabled(env.handleTermination) {
			p.log.Warn("-envoy-drain does nothing without HANDLE_PREEMPTION=true")
		}
	}
	if f.PreemptionApprove && !watched {
		p.log.Warn("-preemption-approve does nothing without HANDLE_PREEMPTION=true")
	}
	p.eviction = e.ready()
	if !watched {
		return nil
	}
	var err error
	p.watcher, err = preempt.New(preempt.Config{
		Provider: preempt.Provider(f.PreemptionProvider),
		URL:      env.metadataURL,
		Host:     env.metadataHost,
		OnNotice: func(n preempt.Notice) { p.eviction.notice("cloud", n) },
		OnHint:   p.eviction.hint,
		Log:      p.log,
	})
	if err != nil {
		return cli.Usagef("preemption: %w", err)
	}
	return nil
}

// approve tells Azure, where that is wanted, that nothing is left to wait for.
func (p *pod) approve() {
	if p.watcher == nil || !p.flags.PreemptionApprove {
		return
	}
	ctx, cancel := context.WithTimeoutCause(p.eviction.life, approveWithin, errDeadline)
	defer cancel()
	switch n, err := p.watcher.Approve(ctx); {
	case err != nil:
		p.log.Error("the cloud waits until the machine's time is over", "err", err)
	case n > 0:
		p.log.Info("told Azure that the machine may go", "events", n)
	}
}

// startable says why nothing is started now.
func (p *pod) startable() error {
	if snap, _ := p.board.Load(); snap.Pod().Preempted {
		return errors.New("the pod is preempted, and starts nothing: try again when the notice is withdrawn")
	}
	return nil
}

func (p *pod) evictionMetrics() evictionCollector {
	c := evictionCollector{state: p.eviction.state}
	if p.watcher != nil {
		c.stats = p.watcher.Stats
	}
	return c
}

// reasonOf joins why a pod drains with why its machine goes.
func reasonOf(drain string, pod status.Pod) string {
	if pod.Preempted && pod.Reason != "" && pod.Reason != drain {
		return drain + "; " + pod.Reason
	}
	return drain
}
