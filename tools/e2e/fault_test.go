package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// faultTTL is that of all locks under faults.
const faultTTL = time.Second

// Kinds of faults.
const (
	faultFreeze = iota // of a replica
	faultKill          // of a replica
	faultFront         // between clients and a replica
	faultBack          // between a replica and etcd
	faultMember        // between a replica and one member
)

// world is three members of etcd, three replicas, and proxies before each of them.
type world struct {
	t        *testing.T
	etcd     *etcdCluster
	replicas []*lockServer
	fronts   []*lossy   // from clients to each replica
	backs    [][]*lossy // from each replica to each member
	notes    *chronicle
	rand     *rand.Rand
	base     []map[string]float64 // goroutines and descriptors of each replica at the begin
	faults   map[string]int
	kinds    []int // of faults
	modes    []int32

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func startWorld(t *testing.T, seed uint64, binary string) *world {
	t.Helper()
	w := &world{t: t, etcd: startEtcdCluster(t, 3), rand: rand.New(rand.NewPCG(seed, 1)), faults: map[string]int{},
		kinds: []int{faultFreeze, faultKill, faultFront, faultBack, faultMember}, modes: []int32{drops, delays, halfOpen, oneWay},
		notes: &chronicle{intervals: map[string][]interval{}, fence: map[string]int64{}}}
	w.ctx, w.cancel = context.WithCancel(t.Context())
	for range 3 {
		var back []*lossy
		var endpoints []string
		for _, m := range w.etcd.members {
			p := startLossy(t, m.endpoint)
			back, endpoints = append(back, p), append(endpoints, p.address())
		}
		address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		s := startLockServer(t, []string{"SHARED_LEASE_ETCD_ENDPOINTS=" + strings.Join(endpoints, ",")}, binary, "-listen", address)
		s.url = "http://" + address
		s.stderr.waitFor(t, lockListens)
		front := startLossy(t, address)
		w.replicas, w.fronts, w.backs = append(w.replicas, s), append(w.fronts, front), append(w.backs, back)
	}
	for i, s := range w.replicas { // what each needs all the time begins with the first lock
		if status, _ := s.ask(t, "POST", fmt.Sprintf("/v1/locks/warm%d/acquire", i), `{"ttl":"200ms"}`); status != 201 {
			t.Fatalf("acquire: %d", status)
		}
	}
	pause(w.ctx, 2*time.Second)
	for _, s := range w.replicas {
		w.base = append(w.base, w.usage(s))
	}
	t.Cleanup(w.cancel)
	return w
}

func (w *world) usage(s *lockServer) map[string]float64 {
	w.t.Helper()
	return map[string]float64{"go_goroutines": s.gauge(w.t, "go_goroutines"), "process_open_fds": s.gauge(w.t, "process_open_fds")}
}

// urls are those of the proxies before the replicas.
func (w *world) urls() (all []string) {
	for _, p := range w.fronts {
		all = append(all, "http://"+p.address())
	}
	return all
}

// clients starts clients that speak /v1, on keys that nobody else uses.
func (w *world) clients(n, keys int) {
	var names []string
	for i := range keys {
		names = append(names, fmt.Sprintf("plain%d", i))
	}
	for i := range n {
		p := &plain{id: i, keys: names, urls: w.urls(), ttl: faultTTL, notes: w.notes, rand: rand.New(rand.NewPCG(w.rand.Uint64(), 2)),
			http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second}}}
		w.wg.Go(func() { p.run(w.ctx) })
	}
}

// commands starts two holders for each key which run a command under the lock again and again.
func (w *world) commands(binary, command string, keys int) (dir string) {
	dir = w.t.TempDir()
	for key := range keys {
		for i := range 2 {
			r := rand.New(rand.NewPCG(w.rand.Uint64(), 3))
			w.wg.Go(func() {
				for w.ctx.Err() == nil {
					w.command(binary, command, dir, fmt.Sprintf("run%d", key), i, r)
				}
			})
		}
	}
	return dir
}

// command holds a key once. Sometimes its holder is killed, or the command is frozen.
func (w *world) command(binary, command, dir, key string, i int, r *rand.Rand) {
	work := time.Duration(200+r.IntN(2000)) * time.Millisecond
	cmd := exec.Command(binary, "run", "-shared-lock-url", w.urls()[r.IntN(3)], "-ttl", faultTTL.String(), "-wait", "3s", key, "--",
		command, "-file", filepath.Join(dir, fmt.Sprintf("%s.%d", key, i)), "-register", filepath.Join(dir, key+".register"), "-for", work.String())
	if err := cmd.Start(); err != nil {
		w.t.Error(err)
		return
	}
	end := make(chan struct{})
	w.wg.Go(func() {
		select {
		case <-end:
		case <-w.ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM) // it releases
			select {
			case <-end:
			case <-time.After(5 * time.Second):
				_ = cmd.Process.Kill()
			}
		case <-time.After(time.Duration(1000+r.IntN(12000)) * time.Millisecond):
			_ = cmd.Process.Kill()
		}
	})
	_ = cmd.Wait() // it may be killed, or lose the lock
	close(end)
}

// disturb makes faults until ctx ends, one after another, and a new leader of etcd every 6 s.
func (w *world) disturb(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			pause(ctx, 6*time.Second)
			if ctx.Err() != nil {
				return
			}
			m := w.leader(ctx)
			if m == nil {
				continue
			}
			m.kill()
			pause(ctx, 1500*time.Millisecond)
			m.start(w.t)
		}
	})
	for ctx.Err() == nil {
		pause(ctx, time.Duration(w.rand.IntN(600))*time.Millisecond)
		w.fault(ctx, w.rand.IntN(3), time.Duration(300+w.rand.IntN(2200))*time.Millisecond)
	}
	wg.Wait()
}

// leader is the member that leads, nil if none does.
func (w *world) leader(ctx context.Context) *member {
	for _, m := range w.etcd.members {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		status, err := w.etcd.client.Status(ask, m.endpoint)
		cancel()
		if err == nil && status.Leader == status.Header.MemberId {
			return m
		}
	}
	return nil
}

// fault disturbs one replica, or a way to or from it, for a while.
func (w *world) fault(ctx context.Context, i int, d time.Duration) {
	s := w.replicas[i]
	mode := w.modes[w.rand.IntN(len(w.modes))]
	var ways []*lossy
	switch kind := w.kinds[w.rand.IntN(len(w.kinds))]; kind {
	case faultFreeze:
		w.faults["a replica freezes"]++
		s.signal(syscall.SIGSTOP)
		pause(ctx, d)
		s.signal(syscall.SIGCONT)
		return
	case faultKill:
		w.faults["a replica is killed"]++
		s.crash()
		pause(ctx, d/2)
		s.again(w.t)
		return
	case faultFront:
		ways = w.fronts[i : i+1]
	case faultBack:
		ways = w.backs[i]
	case faultMember:
		one := w.rand.IntN(3)
		ways = w.backs[i][one : one+1]
	}
	w.faults["the network "+[]string{"", "drops", "delays", "is half open", "is one way"}[mode]]++
	for _, p := range ways {
		p.set(mode)
	}
	pause(ctx, d)
	for _, p := range ways {
		p.set(passes)
	}
}

// run lets clients and faults go for a while, heals all, and ends the clients.
func (w *world) run(most time.Duration) {
	ctx, cancel := context.WithTimeout(w.ctx, most)
	defer cancel()
	w.disturb(ctx)
	w.etcd.healthy()
	pause(w.ctx, 2*faultTTL)
	w.cancel()
	w.wg.Wait()
}

// verdict is what the judges say.
type faultVerdict struct {
	check    porcupine.CheckResult
	overlaps []string
	grants   int
	unknown  int
	commands int
}

func (w *world) judge(stamps string) faultVerdict {
	w.t.Helper()
	v := faultVerdict{}
	for _, op := range w.notes.ops {
		if op.what == opAcquire && op.result == done {
			v.grants++
		}
		if op.result == unknown {
			v.unknown++
		}
	}
	begin := time.Now()
	v.check = linearizable(certain(w.notes.ops, faultTTL))
	w.t.Logf("%d requests, %d grants, %d without an answer; judged as %s in %s", len(w.notes.ops), v.grants, v.unknown, v.check, time.Since(begin).Round(time.Millisecond))
	all := maps.Clone(w.notes.intervals)
	if stamps != "" {
		v.commands = readStamps(w.t, stamps, all)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		v.overlaps = append(v.overlaps, overlaps(key, all[key])...)
	}
	w.t.Logf("%d commands ran; %d late writes were refused; faults: %v", v.commands, w.notes.fenced, w.faults)
	return v
}

// readStamps adds when the commands ran, and returns how many did.
func readStamps(t *testing.T, dir string, all map[string][]interval) (count int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "run*.[0-9]"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		key := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		var last interval
		for line := range strings.Lines(string(text)) {
			var what string
			now := interval{who: "command " + filepath.Base(file)}
			if _, err := fmt.Sscan(line, &what, &now.token, &now.start); err != nil {
				continue // it was killed while it wrote
			}
			if what == "refused" {
				all[key] = append(all[key], interval{"a write that was refused", now.token, now.start, now.start + 1})
			}
			if now.token != last.token {
				if last.token > 0 {
					all[key] = append(all[key], last)
				}
				last = now
				count++
			}
			last.end = now.start
		}
		if last.token > 0 {
			all[key] = append(all[key], last)
		}
	}
	return count
}

// settled checks that nothing is left: no lock, no lease but those of pools and replicas, no
// goroutine and no descriptor.
func (w *world) settled() {
	w.t.Helper()
	eventually(w.t, "leases end", func() error {
		want := len(w.replicas)
		for _, s := range w.replicas {
			want += int(s.gauge(w.t, "shared_lock_pool_leases"))
			if held := s.gauge(w.t, "shared_lock_held"); held > 0 {
				return fmt.Errorf("%v locks are held", held)
			}
		}
		if got, err := w.etcd.leases(); err != nil || got > want {
			return fmt.Errorf("%d leases, want %d (%v)", got, want, err)
		}
		return nil
	})
	for i, s := range w.replicas {
		eventually(w.t, "goroutines and descriptors are back", func() error {
			for name, now := range w.usage(s) {
				if most := w.base[i][name] + 20; now > most {
					return fmt.Errorf("%s is %v, was %v", name, now, w.base[i][name])
				}
			}
			return nil
		})
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

func TestFaults(t *testing.T) {
	holder, err := holderTool()
	if err != nil {
		t.Fatal(err)
	}
	seeds, most := []uint64{1}, 14*time.Second
	if os.Getenv("FAULT") != "" {
		seeds, most = []uint64{11, 12, 13}, time.Minute
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := startWorld(t, seed, program("shared-lock"))
			w.clients(16, 8)
			stamps := w.commands(program("shared-lock"), holder, 8)
			w.run(most)
			v := w.judge(stamps)
			if v.check != porcupine.Ok || len(v.overlaps) > 0 {
				t.Errorf("porcupine says %s; %d overlaps:\n%s", v.check, len(v.overlaps), strings.Join(v.overlaps[:min(len(v.overlaps), 10)], "\n"))
				t.Logf("what led to it:\n%s", strings.Join(culprits(certain(w.notes.ops, faultTTL)), "\n"))
			}
			if v.grants < 50 || v.commands < 10 {
				t.Errorf("only %d grants and %d commands: this proves nothing", v.grants, v.commands)
			}
			w.settled()
		})
	}
}

// mutants are defects that the judges have to find, each with what it replaces in a file, and the
// faults that bring it to light.
var mutants = map[string]struct {
	file, old, new string
	kinds          []int
}{
	"acquire without compare": {"acquire.go", `clientv3.Compare(clientv3.CreateRevision(key), "=", 0)`,
		`clientv3.Compare(clientv3.CreateRevision(key), ">", -1)`, nil},
	"release without compare": {"release.go", `clientv3.Compare(clientv3.CreateRevision(key), "=", ref.Token)`,
		`clientv3.Compare(clientv3.CreateRevision(key), ">", 0)`, nil},
	"end without compare": {"timers.go", `clientv3.Compare(clientv3.ModRevision(k.key), "=", k.modified)`,
		`clientv3.Compare(clientv3.ModRevision(k.key), ">", 0)`, []int{faultFreeze}},
	"end before its time": {"timers.go", `k.due = time.Now().Add(k.keep)`, `k.due = time.Now().Add(k.keep * 3 / 4)`, nil},
}

func TestMutantsAreCaught(t *testing.T) {
	if os.Getenv("FAULT") == "" {
		t.Skip("takes minutes: make fault")
	}
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			binary := mutant(t, "./cmd/shared-lock", "pkg/lock/etcdstore/"+m.file, m.old, m.new)
			for seed := uint64(21); seed < 24; seed++ { // one that depends on luck gets more of it
				w := startWorld(t, seed, binary)
				if m.kinds != nil {
					w.kinds, w.modes = m.kinds, []int32{drops}
				}
				w.clients(16, 4)
				w.run(20 * time.Second)
				if v := w.judge(""); v.check == porcupine.Illegal || len(v.overlaps) > 0 {
					return
				}
			}
			t.Errorf("no judge has found it")
		})
	}
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
