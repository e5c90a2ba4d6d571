//go:build bench

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	flips  = 200
	minute = time.Minute
)

// measurePreemption takes the time from a preemption to un-ready.
func measurePreemption(t *testing.T, _ string) {
	var took []time.Duration
	for range flips {
		t.Run("flip", func(t *testing.T) { took = append(took, flip(t)) })
	}
	if len(took) < flips {
		return
	}
	slices.Sort(took)
	tab := newTable(fmt.Sprintf("From `TRUE` to /readiness 503, %d times", flips), "", "took", "bar", "verdict")
	for _, q := range []struct {
		name string
		took time.Duration
		bar  time.Duration
	}{
		{"half of them within", took[flips/2-1], 5 * time.Millisecond},
		{"99 % within", took[flips*99/100-1], 50 * time.Millisecond},
	} {
		tab.add(q.name, ms(q.took), ms(q.bar), verdict(q.took, q.bar))
	}
	tab.print()
}

// measureBroken takes what a broken metadata server costs.
func measureBroken(t *testing.T, _ string) {
	tab := newTable("A broken metadata server, for a minute", "fault", "requests (bar 90)", "% of a core (bar 1)", "lines (bar 10)")
	all := make([]suffered, len(cloudFaults))
	var wg sync.WaitGroup
	for i, fault := range cloudFaults {
		wg.Go(func() { all[i] = suffer(t, fault, minute) })
	}
	wg.Wait()
	for i, fault := range cloudFaults {
		tab.add(fault, strconv.Itoa(all[i].requests), fmt.Sprintf("%.2f", 100*all[i].cpu.Seconds()/minute.Seconds()), strconv.Itoa(all[i].lines))
	}
	tab.print()
}
