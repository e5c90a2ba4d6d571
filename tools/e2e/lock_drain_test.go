package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Pods that share a lock end in turns, each after a drain that is longer than the TTL. Nobody runs beside another, and the next one
// runs as soon as the last is gone. LOCK_TRIALS=10 makes it 100 hand-overs after 8 s.
func TestHandOversAfterADrain(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	drain, keys, rounds := 2500*time.Millisecond, 3, 1
	if os.Getenv("LOCK_TRIALS") != "" {
		drain, keys, rounds = 8*time.Second, 5, 2*trials(t, 1)
	}
	s := startSharedLock(t, t.TempDir())
	var mu sync.Mutex // guards gaps
	var gaps []time.Duration
	t.Run("keys", func(t *testing.T) {
		for key := range keys {
			t.Run(fmt.Sprint(key), func(t *testing.T) {
				t.Parallel()
				<-time.After(time.Duration(key) * drain / time.Duration(keys)) // not all at the same moment
				got := handOvers(t, s, fmt.Sprintf("drain%d", key), ttl, drain, rounds)
				mu.Lock()
				defer mu.Unlock()
				gaps = append(gaps, got...)
			})
		}
	})
	if len(gaps) != keys*rounds {
		t.Fatalf("%d hand-overs, want %d", len(gaps), keys*rounds)
	}
	slices.Sort(gaps)
	quantile := func(q float64) time.Duration {
		return gaps[int(q*float64(len(gaps)-1)+.5)].Round(100 * time.Microsecond)
	}
	t.Logf("%d hand-overs after drains of %v: p50 %v, p99 %v, most %v", len(gaps), drain, quantile(.5), quantile(.99), quantile(1))
	if most := quantile(.99); most > 500*time.Millisecond { // ten times the bar
		t.Errorf("the next holder came %v after the end", most)
	}
}

// begins has a shell say that a holder begins, as the holder itself takes longer to start than all else: it is this test's binary.
func begins(config string) string {
	self, rest, _ := strings.Cut(strings.TrimPrefix(config, "- name: job\n  entrypoint: "), "\n")
	return "- name: job\n  entrypoint: /bin/sh\n  args: [-c, 'echo > \"$" + holderFile + ".begun\"; exec " + self + "']\n" + rest
}

// handOvers returns how long after the last sign of a holder the next one was started.
func handOvers(t *testing.T, s *lockServer, key string, ttl, drain time.Duration, rounds int) (gaps []time.Duration) {
	t.Helper()
	var files []string // of each pod one, as reading takes its time
	pod := func() *wrapper {
		config, file := holder(t, "ttlDuration: "+ttl.String()+", key: "+key, "  "+holderDrain+": "+drain.String(), "stopTimeout: 9s")
		files = append(files, file)
		return lockWrapper(t, begins(config), s.url)
	}
	present := pod()
	holds(t, files[0], 1)
	for range rounds {
		next := pod()
		next.in("job", "standby")
		began := time.Now()
		if got := present.stop(); got != 0 {
			t.Errorf("exit code %d", got)
		}
		if took := time.Since(began); took < drain {
			t.Errorf("it had %v to drain, of %v", took, drain)
		}
		present = next
		holds(t, files[len(files)-1], 1)
	}
	all := judge(t, files...)
	if len(all) != rounds+1 {
		t.Fatalf("%d holders in %d rounds: %+v", len(all), rounds, all)
	}
	for i := range rounds {
		began := begun(t, files[i+1])
		if began > all[i+1].first {
			t.Errorf("it began at %v and lived at %v", began, all[i+1].first)
		}
		gaps = append(gaps, began-all[i].last)
	}
	return gaps
}

// begun is when the shell before the last holder ran, by sinceBoot and on a grid of 4 ms or so.
func begun(t *testing.T, file string) time.Duration {
	t.Helper()
	info, err := os.Stat(file + ".begun")
	if err != nil {
		t.Fatal(err)
	}
	return sinceBoot() - time.Since(info.ModTime())
}
