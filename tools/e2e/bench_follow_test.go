//go:build bench

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// measureFollowers takes how fast the lines of a process are carried while nobody, and while 100 clients follow them.
func measureFollowers(t *testing.T, load string) {
	const rate, followers, rounds = 100_000_000, 100, 3
	line := strings.Repeat("0123456789", 10)[1:]
	tab := newTable(fmt.Sprintf("%d followers of the log of a process", followers), "the process writes", "alone", "followed", "of it", "bar")
	for _, c := range []struct {
		name, script string
		bar          float64
	}{
		{"100 MB/s", fmt.Sprintf("exec %s write %d %s", load, rate, line), 0.9},
		{"all it can", "exec yes " + line, 0}, // the clients need the processors too
	} {
		var alone, followed []float64
		for range rounds {
			t.Run("round", func(t *testing.T) {
				a, f := followSpeeds(t, c.script, followers)
				alone, followed = append(alone, a), append(followed, f)
			})
		}
		if len(followed) < rounds {
			return
		}
		slices.Sort(alone)
		slices.Sort(followed)
		a, f := alone[rounds/2]*float64(len(line)+1), followed[rounds/2]*float64(len(line)+1)
		tab.add(c.name, fmt.Sprintf("%.0f MB/s", a/1e6), fmt.Sprintf("%.0f MB/s", f/1e6), fmt.Sprintf("%.2f", f/a), barOf(f/a, c.bar))
	}
	tab.print()
}

func barOf(measured, bar float64) string {
	if bar == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f: %s", bar, atLeast(measured, bar))
}

// followSpeeds returns lines per second of a process alone, and with followers that all read.
func followSpeeds(t *testing.T, text string, followers int) (alone, followed float64) {
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	w := start(t, options{config: script("flood", text), stdout: sink})
	w.ready()
	speed := func() float64 {
		count := func() float64 {
			return w.metric(`process_wrapper_log_lines_total{level="info",process_name="flood",stream="stdout"}`)
		}
		n, began := count(), time.Now()
		<-time.After(2 * time.Second)
		return (count() - n) / time.Since(began).Seconds()
	}
	alone = speed()
	for range followers {
		w.follow(true)
	}
	return alone, speed()
}
