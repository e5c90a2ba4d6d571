//go:build bench

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	flips     = 200
	hardFlips = 10
	minute    = time.Minute
)

// measurePreemption takes the time from a preemption to un-ready.
func measurePreemption(t *testing.T, _ string) {
	took := repeat(t, flips, flip)
	if took == nil {
		return
	}
	tab := newTable(fmt.Sprintf("From `TRUE` to /readiness 503, %d times", flips), "", "took", "bar", "verdict")
	add := func(name string, took, bar time.Duration) { tab.add(name, ms(took), ms(bar), verdict(took, bar)) }
	add("half of them within", took[flips/2-1], 5*time.Millisecond)
	add("99 % within", took[flips*99/100-1], 50*time.Millisecond)
	for _, hard := range []struct {
		name string
		run  func(t *testing.T) time.Duration
		bar  time.Duration
	}{
		{"`TRUE` already at the start", startAfterTRUE, time.Second},
		{"a server that does not wait, between two polls", func(t *testing.T) time.Duration { return flipIn(t, "at once", 0) }, time.Second},
		{"in an outage of a second with 503, after its end", func(t *testing.T) time.Duration { return flipIn(t, "503", time.Second) }, 1500 * time.Millisecond},
	} {
		if took := repeat(t, hardFlips, hard.run); took != nil {
			add(fmt.Sprintf("%s, the worst of %d", hard.name, hardFlips), took[hardFlips-1], hard.bar)
		}
	}
	tab.print()
}

// repeat measures something n times, and returns what it took in order, or nil after a failure.
func repeat(t *testing.T, n int, measure func(t *testing.T) time.Duration) []time.Duration {
	var took []time.Duration
	for range n {
		t.Run("trial", func(t *testing.T) { took = append(took, measure(t)) })
	}
	if len(took) < n {
		return nil
	}
	slices.Sort(took)
	return took
}

// startAfterTRUE starts on a machine that is preempted already, until /readiness is 503.
func startAfterTRUE(t *testing.T) time.Duration {
	c := newCloud(t)
	c.preempt()
	began := time.Now()
	w := start(t, options{env: c.env()})
	w.unready(began)
	return time.Since(began)
}

// flipIn preempts a machine at some time in a fault of its metadata server, and tells how long after the end of
// the fault, or the preemption where that comes later, /readiness is 503.
func flipIn(t *testing.T, fault string, lasts time.Duration) time.Duration {
	c := newCloud(t)
	w := start(t, options{env: c.env()})
	c.watched()
	<-time.After(2 * time.Second) // what is asked at the start is over
	c.change(func() { c.fault = fault })
	c.CloseClientConnections() // the long poll of before the fault
	at := rand.N(max(lasts, time.Second))
	<-time.After(at)
	c.preempt()
	<-time.After(max(0, lasts-at))
	ended := time.Now()
	c.change(func() { c.fault = "" })
	w.unready(ended)
	return time.Since(ended)
}

// unready waits until /readiness is 503.
func (w *wrapper) unready(began time.Time) {
	w.t.Helper()
	for {
		if got, _ := w.get("/readiness"); got == http.StatusServiceUnavailable {
			return
		}
		if time.Since(began) > patience {
			w.t.Fatal("nobody saw the preemption")
		}
	}
}

// measureBroken takes what a broken metadata server costs.
func measureBroken(t *testing.T, _ string) {
	tab := newTable("A broken metadata server, for a minute", "fault", "requests (bar 90)", "% of a core (bar 1)", "lines (bar 10)", "verdict")
	all := make([]suffered, len(cloudFaults))
	var wg sync.WaitGroup
	for i, fault := range cloudFaults {
		wg.Go(func() { all[i] = suffer(t, fault, minute) })
	}
	wg.Wait()
	for i, fault := range cloudFaults {
		core := 100 * all[i].cpu.Seconds() / minute.Seconds()
		worst := max(float64(all[i].requests)/90, core, float64(all[i].lines)/10)
		tab.add(fault, strconv.Itoa(all[i].requests), fmt.Sprintf("%.2f", core), strconv.Itoa(all[i].lines), verdict(worst, 1))
	}
	tab.print()
}
