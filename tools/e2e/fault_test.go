package e2e

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// rehearsal is how long and how hard TestFaults is.
type rehearsal struct {
	seeds []uint64
	most  time.Duration
}

func TestFaults(t *testing.T) {
	r := rehearsal{[]uint64{1}, 10 * time.Second}
	if os.Getenv("FAULT") != "" {
		r = rehearsal{[]uint64{11, 12, 13}, time.Minute}
	}
	for _, seed := range r.seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := startWorld(t, worldOptions{members: 3, replicas: 3, ttl: time.Second, seed: seed, server: program("shared-lock"), wrapper: program("process-wrapper")})
			w.measure()
			w.clients(8, 4)
			w.commands(2)
			for key := range 8 {
				for i := range 2 {
					w.pod(fmt.Sprintf("pod%d", key), i, w.noted, 200*time.Millisecond, 3*time.Second)
				}
			}
			w.run(r.most)
			v := w.judge()
			v.sound(t, w)
			if v.grants < 50 || v.holders < 20 || v.together == 0 {
				t.Errorf("only %d grants, %d renewed together and %d holders: this proves nothing", v.grants, v.together, v.holders)
			}
			for _, p := range w.pods {
				for _, thaw := range p.thaws {
					if thaw.lived-thaw.late > 10*thawTime {
						t.Errorf("a tree lived for %s after its pod had thawed, of which this test was kept waiting for %s", thaw.lived, thaw.late)
					}
				}
			}
			w.settled()
		})
	}
}

// run lets faults come over all for a while, heals all, sees that all goes on, and ends who uses locks.
func (w *world) run(most time.Duration) {
	w.t.Helper()
	var base []map[string]float64
	for _, p := range w.pods {
		base = append(base, usage(w.t, p.url()))
	}
	ctx, cancel := context.WithTimeout(w.ctx, most)
	defer cancel()
	for _, p := range w.pods {
		w.lives.Go(func() { p.live(ctx) })
	}
	w.disturb(ctx)
	w.lives.Wait()
	w.etcd.healthy()
	healed := boottime()
	for i, p := range w.pods {
		eventually(w.t, p.key+" is held again", func() error {
			if last := max(lastStamp(w.stamps(p.key, 0)), lastStamp(w.stamps(p.key, 1))); last < healed {
				return fmt.Errorf("the last holder lived %s before", time.Duration(healed-last))
			}
			return nil
		})
		within := map[string]float64{"go_goroutines": base[i]["go_goroutines"] + 15, "process_open_fds": base[i]["process_open_fds"] + 15}
		w.uses(p.url(), within)
	}
	w.t.Logf("each key was held again %s after the last fault", time.Duration(boottime()-healed).Round(time.Millisecond))
	var wg sync.WaitGroup
	for _, p := range w.pods {
		wg.Go(p.stop)
	}
	wg.Wait()
	w.cancel()
	w.wg.Wait()
}

// uses waits until a program uses no more than it may.
func (w *world) uses(url string, most map[string]float64) {
	w.t.Helper()
	eventually(w.t, "goroutines and descriptors are back", func() error {
		for name, now := range usage(w.t, url) {
			if now > most[name] {
				return fmt.Errorf("%s is %v, at most %v is allowed", name, now, most[name])
			}
		}
		return nil
	})
}

// lastStamp is when a holder last said that it lives, 0 if none did.
func lastStamp(file string) (at int64) {
	text, _ := os.ReadFile(file) // there may be none yet
	for line := range strings.Lines(string(text[max(0, len(text)-200):])) {
		var what string
		var token, ns int64
		if n, _ := fmt.Sscan(line, &what, &token, &ns); n == 3 {
			at = max(at, ns)
		}
	}
	return at
}

// verdict is what the judges say.
type faultVerdict struct {
	check    porcupine.CheckResult
	overlaps []string
	grants   int
	together int // locks renewed with others in one request, or found gone
	unknown  int
	holders  int      // that ran
	thaws    []thawed // in order
}

// innocent tells if no judge has found anything.
func (v *faultVerdict) innocent() bool { return v.check == porcupine.Ok && len(v.overlaps) == 0 }

// sound fails where a judge has found something.
func (v *faultVerdict) sound(t *testing.T, w *world) {
	t.Helper()
	if v.innocent() {
		return
	}
	t.Errorf("porcupine says %s; %d overlaps:\n%s", v.check, len(v.overlaps), strings.Join(v.overlaps[:min(len(v.overlaps), 10)], "\n"))
	t.Logf("what led to it:\n%s", strings.Join(append(culprits(w.notes.ops, w.o.ttl), illegal(w.notes.ops, w.o.ttl)...), "\n"))
	for _, p := range w.pods {
		if slices.ContainsFunc(v.overlaps, func(s string) bool { return strings.HasPrefix(s, p.key+":") }) {
			t.Logf("%s.%d:\n%s", p.key, p.i, p.tail())
		}
	}
}

func (w *world) judge() faultVerdict {
	w.t.Helper()
	v := faultVerdict{}
	for _, op := range w.notes.ops {
		if op.what == opAcquire && op.result == done {
			v.grants++
		}
		switch {
		case op.result == unknown:
			v.unknown++
		case op.together:
			v.together++
		}
	}
	begin := time.Now()
	v.check = linearizable(w.notes.ops, w.o.ttl)
	w.t.Logf("%d requests, %d grants, %d renewed together, %d without an answer; judged as %s in %s", len(w.notes.ops), v.grants, v.together, v.unknown, v.check, time.Since(begin).Round(time.Millisecond))
	all := maps.Clone(w.notes.intervals)
	late := w.readStamps(all, &v)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		v.overlaps = append(v.overlaps, overlaps(key, all[key])...)
	}
	v.overlaps = append(v.overlaps, w.readRegisters()...)
	w.t.Logf("%d holders ran; %d late writes of clients and %d of frozen pods were refused", v.holders, w.notes.fenced, late)
	for _, what := range slices.Sorted(maps.Keys(w.faults)) {
		w.t.Logf("%3d x %s", w.faults[what], what)
	}
	for _, p := range w.pods {
		v.thaws = append(v.thaws, p.thaws...)
	}
	slices.SortFunc(v.thaws, func(a, b thawed) int { return cmp.Compare(a.lived, b.lived) })
	if n := len(v.thaws); n > 0 {
		within, _ := slices.BinarySearchFunc(v.thaws, thawTime, func(t thawed, most time.Duration) int { return cmp.Compare(t.lived, most) })
		last := v.thaws[n-1]
		w.t.Logf("of %d trees %d were dead within %s after the thaw of their pod, half of them within %s, the last after %s, of which this test was kept waiting for %s",
			n, within, thawTime, v.thaws[n/2].lived.Round(100*time.Microsecond), last.lived.Round(100*time.Microsecond), last.late.Round(100*time.Microsecond))
	}
	return v
}

// readStamps adds when the holders ran. What a frozen pod does when it wakes up is left to the register;
// it returns how many such writes that has refused.
func (w *world) readStamps(all map[string][]interval, v *faultVerdict) (late int) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "*.[0-9]"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		key := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		byToken, told := map[int64]interval{}, map[int64]bool{}
		for line := range strings.Lines(string(text)) {
			var what string
			now := interval{who: "holder " + filepath.Base(file)}
			if n, _ := fmt.Sscan(line, &what, &now.token, &now.start); n < 3 {
				continue // it was killed while it wrote
			}
			froze, ok := w.frozen[lockName{key, now.token}]
			switch {
			case ok && what == "refused":
				late++
				continue
			case ok && now.start >= froze.from:
				continue
			case what == "refused" && !told[now.token]: // the first is enough
				told[now.token] = true
				all[key] = append(all[key], interval{"a write that was refused", now.token, now.start, now.start + 1})
			}
			old, known := byToken[now.token]
			now.end = max(now.start, old.end)
			if known {
				now.start = min(now.start, old.start)
			}
			byToken[now.token] = now
		}
		v.holders += len(byToken)
		all[key] = slices.AppendSeq(all[key], maps.Values(byToken))
	}
	return late
}

// readRegisters names smaller tokens that were written after greater ones.
func (w *world) readRegisters() (found []string) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "*.register"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		var last int64
		for line := range strings.Lines(string(text)) {
			var token, ns int64
			if n, _ := fmt.Sscan(line, &token, &ns); n < 2 || token <= last {
				found = append(found, fmt.Sprintf("%s: %q after %d", filepath.Base(file), line, last))
			}
			last = token
		}
	}
	return found
}

// settled checks that nothing is left: no holder and no guardian, no lock, no lease but those of pools and
// replicas, no goroutine and no descriptor.
func (w *world) settled() {
	w.t.Helper()
	begin := time.Now()
	eventually(w.t, "processes end", func() error {
		if left := w.leftovers(true); len(left) > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
	eventually(w.t, "leases end", func() error {
		want := len(w.replicas)
		for _, s := range w.replicas {
			want += int(s.gauge(w.t, "shared_lock_pool_leases"))
			if held := s.gauge(w.t, "shared_lock_held"); held > 0 {
				return fmt.Errorf("%v locks are held", held)
			}
		}
		got, err := w.etcd.leases()
		if err == nil && got != want {
			err = fmt.Errorf("%d leases, those of pools and replicas are %d", got, want)
		}
		return err
	})
	w.t.Logf("no lock and no process is left, and no lease but those of pools and replicas, %s after the end", time.Since(begin).Round(100*time.Millisecond))
	for i, s := range w.replicas {
		most := map[string]float64{}
		for name, n := range w.base[i] {
			most[name] = n + 20
		}
		w.uses(s.url, most)
	}
}

// holderTool builds the command of holders once.
var holderTool = sync.OnceValues(func() (string, error) {
	path := filepath.Join(bin, "holder")
	build := exec.Command("go", "build", "-o", path, "./holder")
	build.Env = environment("CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build holder: %w\n%s", err, out)
	}
	return path, nil
})
