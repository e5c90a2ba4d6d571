package status

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// what SPEC calls good and bad, by phase; "late" is longer un-ready than allowed.
func TestWhatAPhaseMeansForThePod(t *testing.T) {
	tests := []struct {
		phase                 Phase
		ready, alive, aliveAt bool // the last: when late
	}{
		{Waiting, false, true, false},
		{Standby, true, true, true},
		{Starting, false, true, false},
		{Running, false, true, false},
		{Ready, true, true, true},
		{Stopping, false, true, false},
		{Backoff, false, true, false},
		{Completed, true, true, true},
		{Failed, false, false, false},
		{Stopped, false, true, true},
		{Skipped, true, true, true},
	}
	if len(tests) != len(Phases()) {
		t.Fatalf("%d phases of %d", len(tests), len(Phases()))
	}
	now := time.Now()
	for _, tt := range tests {
		b := NewBoard()
		b.Put(State{Name: "p", Phase: tt.phase, UnreadySince: now, StartupDeadline: 20 * time.Second})
		snap, _ := b.Load()
		alive := func(at time.Time) bool {
			for range snap.Dead(at) {
				return false
			}
			return true
		}
		if snap.Ready() != tt.ready || alive(now.Add(20*time.Second)) != tt.alive || alive(now.Add(21*time.Second)) != tt.aliveAt {
			t.Errorf("%s: ready %v, alive %v, when late %v", tt.phase, snap.Ready(), alive(now), alive(now.Add(21*time.Second)))
		}
	}
}

func TestOneThatWasNeverStartedOrHasNoDeadlineIsNotDead(t *testing.T) {
	now := time.Now()
	for _, st := range []State{
		{Phase: Waiting, StartupDeadline: time.Second},
		{Phase: Backoff, UnreadySince: now.Add(-time.Hour)},
	} {
		if st.Dead(now) {
			t.Errorf("%+v", st)
		}
	}
}

func TestAPodIsReadyWhenAllThatCountAre(t *testing.T) {
	b := NewBoard()
	ready := func() bool { s, _ := b.Load(); return s.Ready() }
	if !ready() {
		t.Error("a pod without processes is ready")
	}
	for i := range 100 {
		b.Put(State{Name: fmt.Sprint(i), Phase: Running})
	}
	for i := range 100 {
		if ready() {
			t.Fatalf("ready with %d to come", 100-i)
		}
		b.Put(State{Name: fmt.Sprint(i), Phase: Ready})
	}
	if !ready() {
		t.Error("all are ready")
	}
	b.Put(State{Name: "7", Phase: Backoff})
	s, _ := b.Load()
	if names := slices.Collect(func(yield func(string) bool) {
		for st := range s.Unready {
			if !yield(st.Name) {
				return
			}
		}
	}); s.Ready() || !slices.Equal(names, []string{"7"}) {
		t.Errorf("ready %v, unready %v", s.Ready(), names)
	}
	b.Remove("7")
	if !ready() {
		t.Error("what was not ready is removed")
	}
	b.UpdatePod(func(p *Pod) { p.Draining = true })
	if ready() {
		t.Error("draining")
	}
}

func TestASnapshotNeverChanges(t *testing.T) {
	b := NewBoard()
	var states []State
	for i := range 70 {
		states = append(states, State{Name: fmt.Sprint("p", i), Phase: Waiting})
	}
	b.Declare(states...)
	old, changed := b.Load()
	b.Put(State{Name: "p33", Phase: Ready})
	b.Put(State{Name: "new", Phase: Ready})
	b.Remove("p0")
	select {
	case <-changed:
	default:
		t.Error("not told of the change")
	}
	for st := range old.All {
		if st.Phase != Waiting {
			t.Errorf("%s is %s", st.Name, st.Phase)
		}
	}
	if _, known := old.Get("new"); known || old.Len() != 70 {
		t.Errorf("%d processes", old.Len())
	}
	cur, _ := b.Load()
	var names []string
	for st := range cur.All {
		names = append(names, st.Name)
	}
	if len(names) != 70 || names[0] != "p1" || names[32] != "p33" || names[69] != "new" {
		t.Error(names)
	}
	if st, _ := cur.Get("p33"); st.Phase != Ready {
		t.Errorf("%+v", st)
	}
}

type recorder struct {
	edges  []string
	checks []Check
}

func (r *recorder) Observe(old, new State) {
	r.edges = append(r.edges, fmt.Sprintf("%s>%s", old.Phase, new.Phase))
}
func (r *recorder) ObserveCheck(c Check) { r.checks = append(r.checks, c) }

func TestAnObserverSeesEveryEdgeInOrder(t *testing.T) {
	r := &recorder{}
	b := NewBoard(r)
	for _, ph := range []Phase{Waiting, Starting, Running, Ready} {
		b.Put(State{Name: "p", Phase: ph})
	}
	b.PutCheck(Check{Process: "p", Probe: "http", Result: Pass})
	if got := fmt.Sprint(r.edges); got != "[>waiting waiting>starting starting>running running>ready]" || len(r.checks) != 1 {
		t.Error(got, r.checks)
	}
}

func TestAWatchOfThePodWakesForThePodOnly(t *testing.T) {
	b := NewBoard()
	pod, changed := b.WatchPod()
	b.Declare(State{Name: "a"})
	b.Put(State{Name: "a", Phase: Running})
	b.UpdatePod(func(*Pod) {})
	select {
	case <-changed:
		t.Error("it wakes for a process, or for nothing")
	default:
	}
	b.UpdatePod(func(p *Pod) { p.Preempted = true })
	select {
	case <-changed:
	default:
		t.Error("it sleeps on")
	}
	if now, _ := b.WatchPod(); pod.Preempted || !now.Preempted {
		t.Errorf("%+v, then %+v", pod, now)
	}
}

func TestAWatchWakesForItsProcessOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBoard()
		_, unknown := b.Watch("a")
		b.Declare(State{Name: "a"}, State{Name: "b"})
		<-unknown
		_, changed := b.Watch("a")
		var wg sync.WaitGroup
		woken := false
		wg.Go(func() { <-changed; woken = true })
		for range 10 {
			b.Put(State{Name: "b", Phase: Running})
		}
		synctest.Wait()
		if woken {
			t.Error("woken by another process")
		}
		b.Put(State{Name: "a", Phase: Running})
		wg.Wait()
		if st, _ := b.Watch("a"); st.Phase != Running {
			t.Errorf("%+v", st)
		}
	})
}

func TestReadersNeverMissTheLastState(t *testing.T) {
	b := NewBoard()
	const n = 2000
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range n {
				b.Put(State{Name: fmt.Sprint(w), Restarts: i})
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for {
				s, changed := b.Load()
				sum := 0
				for st := range s.All {
					sum += st.Restarts
				}
				if sum == 4*(n-1) {
					return
				}
				<-changed
			}
		})
	}
	wg.Wait()
}

func TestChecksAreKeptByName(t *testing.T) {
	b := NewBoard()
	for _, name := range []string{"tcp", "http", "tcp"} {
		b.PutCheck(Check{Process: "p", Probe: name, Failures: len(b.Checks("p"))})
	}
	got := b.Checks("p")
	if len(got) != 2 || got[0].Probe != "http" || got[1].Probe != "tcp" || got[1].Failures != 2 {
		t.Errorf("%+v", got)
	}
	b.ForgetChecks("p")
	if n := len(b.Checks("p")); n != 0 {
		t.Errorf("%d left", n)
	}
}

// transitions are those of n processes in turn.
func transitions(n int) func(*testing.B) {
	return func(b *testing.B) {
		var states []State
		for i := range n {
			states = append(states, State{Name: fmt.Sprint("p", i), Phase: Running})
		}
		board := NewBoard()
		board.Declare(states...)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			st := states[i%n]
			st.Restarts = i
			board.Put(st)
		}
	}
}

// The bar: a transition must not copy all states.
func TestATransitionAmongThousandsCopiesFewStates(t *testing.T) {
	got := testing.Benchmark(transitions(4000)) // a pointer to each state would be 32,000 bytes
	if each := got.AllocedBytesPerOp(); each > 6000 {
		t.Errorf("a transition allocates %d bytes", each)
	}
	if allocs := got.AllocsPerOp(); allocs > 20 {
		t.Errorf("a transition makes %d allocations", allocs)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), transitions(n))
	}
}

func TestPodTurnsWhenItsReadinessDoes(t *testing.T) {
	b := NewBoard()
	b.Declare(State{Name: "a", Phase: Waiting}, State{Name: "b", Phase: Ready})
	for _, step := range []struct {
		name string
		do   func()
		want bool // it turns
	}{
		{"one starts", func() { b.Put(State{Name: "a", Phase: Starting}) }, false},
		{"it runs", func() { b.Put(State{Name: "a", Phase: Running}) }, false},
		{"all are ready", func() { b.Put(State{Name: "a", Phase: Ready}) }, true},
		{"one gets another pid", func() { b.Put(State{Name: "a", Phase: Ready, PID: 7}) }, false},
		{"one is ready no more", func() { b.Put(State{Name: "a", Phase: Backoff}) }, true},
		{"another one too", func() { b.Put(State{Name: "b", Phase: Backoff}) }, false},
		{"it leaves service", func() { b.UpdatePod(func(p *Pod) { p.Draining = true }) }, true},
		{"nothing changes", func() { b.UpdatePod(func(p *Pod) { p.Draining = true }) }, false},
		{"its reason changes", func() { b.UpdatePod(func(p *Pod) { p.Reason = "x" }) }, true},
		{"those that are bad go", func() { b.Remove("a"); b.Remove("b") }, false},
	} {
		before, turned := b.LoadPod()
		step.do()
		got := false
		select {
		case <-turned:
			got = true
		default:
		}
		if got != step.want {
			t.Errorf("%s: turned %v", step.name, got)
		}
		if now, _ := b.Load(); !got && (before.Ready() != now.Ready() || before.Pod() != now.Pod()) {
			t.Errorf("%s: it turned and did not say so", step.name)
		}
	}
}
