package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stage is a small world for a plot: two process-wrappers that want one key, each with ways of its own
// to two replicas.
type stage struct {
	*world
	a, b         *faultPod
	wayA, wayB   []*lossy
	guarded      family // of a
	staysTheSame bool   // a is to run in the end, as it did at the begin
}

const plotKey = "plot"

// enter starts a, and then b, which has to wait.
func (s *stage) enter(wayA, wayB []*lossy) {
	s.t.Helper()
	s.wayA, s.wayB = wayA, wayB
	s.a = s.pod(plotKey, 0, wayA, time.Hour, time.Hour)
	s.runs(0)
	s.guarded = s.a.family()
	if s.guarded.guardian == 0 || len(s.guarded.tree) == 0 {
		s.t.Fatalf("a holder has no guardian, or no process: %+v", s.guarded)
	}
	s.b = s.pod(plotKey, 1, wayB, time.Hour, time.Hour)
}

// runs waits until a holder of a pod runs.
func (s *stage) runs(i int) {
	s.t.Helper()
	begin := boottime()
	eventually(s.t, fmt.Sprintf("holder %d runs", i), func() error {
		if lastStamp(s.stamps(plotKey, i)) < begin {
			return fmt.Errorf("it does not")
		}
		return nil
	})
}

// renews waits until a renewal is on its way, or has been answered well.
func (s *stage) renews(answered bool) {
	s.t.Helper()
	begin := boottime()
	eventually(s.t, "the lock is renewed", func() error {
		s.notes.mu.Lock()
		defer s.notes.mu.Unlock()
		for _, op := range s.notes.ops {
			if op.what == opRenew && op.call > begin && (!answered || op.result == done) {
				return nil
			}
		}
		return fmt.Errorf("nobody asked")
	})
}

func (s *stage) passes(d time.Duration) { pause(s.ctx, d) }

func all(ways []*lossy, mode int32) {
	for _, p := range ways {
		p.set(mode)
	}
}

// plots bring defects to light that faults by chance would show only at times. The TTL is 4 s: a holder's
// deadline is 600 ms before it.
var plots = map[string]func(s *stage){
	"two want one key": func(s *stage) {
		s.enter(s.ways(), s.ways())
		s.passes(s.o.ttl)
		s.staysTheSame = true
	},
	"a release comes after the end": func(s *stage) {
		p := s.plain(0, plotKey)
		op, _, ok := p.acquire(s.ctx, plotKey)
		if !ok {
			s.t.Fatal("the key is not free")
		}
		s.enter(s.ways(), s.ways()) // after the end of that
		s.passes(500 * time.Millisecond)
		s.renews(true)
		p.release(op)
		s.passes(s.o.ttl / 2)
		s.staysTheSame = true
	},
	"a renewal of several locks comes after the end": func(s *stage) {
		p := s.plain(0, plotKey)
		op, _, ok := p.acquire(s.ctx, plotKey)
		if !ok {
			s.t.Fatal("the key is not free")
		}
		s.enter(s.ways(), s.ways())
		s.renews(true)
		p.renewTogether(s.ctx, s.o.ttl, op.name(), lockName{"another", op.token})
		s.passes(s.o.ttl / 2)
		s.staysTheSame = true
	},
	"a replica that kept the time wakes up": func(s *stage) {
		s.enter(s.ways(), s.ways()[1:])
		s.passes(500 * time.Millisecond)
		s.replicas[0].signal(syscall.SIGSTOP)
		s.passes(s.o.ttl * 3 / 2) // a goes to the other one
		s.renews(true)
		s.replicas[0].signal(syscall.SIGCONT)
		s.passes(s.o.ttl / 2)
		s.staysTheSame = true
	},
	"the network is lost at once": func(s *stage) {
		s.enter(s.ways(), s.ways())
		all(s.wayA, drops)
		s.runs(1)
		s.passes(time.Second)
	},
	"the network is lost while the guardian hangs": func(s *stage) {
		s.enter(s.ways(), s.ways())
		s.renews(true)
		send(syscall.SIGSTOP, s.guarded.guardian)
		all(s.wayA, drops)
		s.runs(1)
		s.passes(time.Second)
		send(syscall.SIGCONT, s.guarded.guardian)
	},
	"an answer comes late and is the last": func(s *stage) {
		s.enter(s.ways()[:1], s.ways())
		all(s.wayA, late)
		s.renews(false) // it has arrived
		all(s.wayA, deaf)
		s.runs(1)
		s.passes(time.Second)
	},
	"process-wrapper hangs": func(s *stage) {
		s.enter(s.ways(), s.ways())
		s.renews(true)
		s.a.signal(syscall.SIGSTOP)
		s.runs(1)
		s.passes(time.Second)
		s.a.signal(syscall.SIGCONT)
	},
	"process-wrapper hangs with its second guardian": func(s *stage) {
		s.enter(s.ways(), s.ways())
		send(syscall.SIGKILL, s.guarded.guardian)
		s.renews(true)
		s.renews(true)
		s.a.signal(syscall.SIGSTOP)
		s.runs(1)
		s.passes(time.Second)
		s.a.signal(syscall.SIGCONT)
	},
	"process-wrapper is killed": func(s *stage) {
		s.enter(s.ways(), s.ways())
		s.renews(true)
		s.a.signal(syscall.SIGKILL)
		s.runs(1)
		s.passes(time.Second)
	},
}

// mutants are defects, each with what it replaces in a file, and the plot in which a judge has to find it.
var mutants = []struct{ name, plot, command, file, old, new string }{
	{"acquire without compare", "two want one key", "shared-lock", "pkg/lock/etcdstore/acquire.go",
		`clientv3.Compare(clientv3.CreateRevision(key), "=", 0)`, `clientv3.Compare(clientv3.CreateRevision(key), ">", -1)`},
	{"release without compare", "a release comes after the end", "shared-lock", "pkg/lock/etcdstore/release.go",
		`clientv3.Compare(clientv3.CreateRevision(key), "=", ref.Token)`, `clientv3.Compare(clientv3.CreateRevision(key), ">", 0)`},
	{"renewal of several locks without compare", "a renewal of several locks comes after the end", "shared-lock", "pkg/lock/v1.go",
		`out[i] = renewedJSON{Key: refs[i].Key,`, `a.Err = nil; out[i] = renewedJSON{Key: refs[i].Key,`},
	{"end without compare", "a replica that kept the time wakes up", "shared-lock", "pkg/lock/etcdstore/timers.go",
		`clientv3.Compare(clientv3.ModRevision(k.key), "=", k.modified)`, `clientv3.Compare(clientv3.ModRevision(k.key), ">", 0)`},
	{"end before its time", "the network is lost at once", "shared-lock", "pkg/lock/etcdstore/timers.go",
		`k.due = time.Now().Add(k.keep)`, `k.due = time.Now().Add(k.keep * 3 / 4)`},
	{"no deadline of process-wrapper", "the network is lost while the guardian hangs", "process-wrapper", "pkg/lease/guard.go",
		`h.alarm.set(h.deadline())`, `h.alarm.set(h.deadline() + time.Hour)`},
	{"no local deadline at all", "the network is lost at once", "process-wrapper", "pkg/lease/lock.go",
		`sent+l.req.TTL-l.req.margin()`, `sent+time.Hour`},
	{"deadline counted from the answer", "an answer comes late and is the last", "process-wrapper", "pkg/lease/lock.go",
		`l.acknowledged(sent)`, `l.acknowledged(max(sent, Boottime()))`},
	{"no deadline of the guardian", "process-wrapper hangs", "process-wrapper", "pkg/command/guardian_linux.go",
		`if w.Deadline <= now {`, `if w.Deadline <= now-time.Hour {`},
	{"a guardian that only leaves", "process-wrapper is killed", "process-wrapper", "pkg/command/guardian_linux.go",
		`			g.end()`, `			_ = g.end`},
}

// Each plot is to be found free of faults with the programs as they are, and each defect by a judge.
func TestMutantsAreCaught(t *testing.T) {
	if os.Getenv("FAULT") == "" {
		t.Skip("takes minutes: make fault")
	}
	for plot := range plots {
		t.Run(plot, func(t *testing.T) {
			t.Parallel()
			t.Run("as it is", func(t *testing.T) {
				s, v := play(t, plot, program("shared-lock"), program("process-wrapper"))
				v.sound(t, s.world)
				if s.staysTheSame && v.holders != 1 || !s.staysTheSame && v.holders != 2 {
					t.Errorf("%d holders ran", v.holders)
				}
			})
			for _, m := range mutants {
				if m.plot != plot {
					continue
				}
				t.Run(m.name, func(t *testing.T) {
					programs := map[string]string{"shared-lock": program("shared-lock"), "process-wrapper": program("process-wrapper")}
					programs[m.command] = mutant(t, "./cmd/"+m.command, m.file, m.old, m.new)
					for range 3 { // some depend on who of two is first
						if _, v := play(t, plot, programs["shared-lock"], programs["process-wrapper"]); !v.innocent() {
							t.Logf("found: porcupine says %s, %d overlaps: %.200q", v.check, len(v.overlaps), v.overlaps)
							return
						}
					}
					t.Errorf("no judge has found it")
				})
			}
		})
	}
}

// play has a plot happen, and judges it.
func play(t *testing.T, plot, server, wrapper string) (*stage, faultVerdict) {
	t.Helper()
	w := startWorld(t, worldOptions{members: 1, replicas: 2, ttl: 4 * time.Second, seed: 1, server: server, wrapper: wrapper})
	s := &stage{world: w}
	plots[plot](s)
	w.end()
	return s, w.judge()
}

// mutant builds a command with a defect.
func mutant(t *testing.T, command, path, old, replaced string) string {
	t.Helper()
	dir := t.TempDir()
	file, err := filepath.Abs(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		t.Fatalf("%s does not hold once: %s", path, old)
	}
	mutated := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(text), old, replaced, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace":{%q:%q}}`, file, mutated), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, filepath.Base(command))
	build := exec.Command("go", "build", "-overlay", overlay, "-o", out, command)
	build.Dir, build.Env = root, environment("CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	return out
}
