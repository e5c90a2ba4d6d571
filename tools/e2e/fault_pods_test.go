package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// thawTime is what a tree is to live on after its pod was frozen for longer than its lock was good.
// Tests on a machine that others use too grant ten times as much.
const thawTime = 50 * time.Millisecond

// faultPod is a process-wrapper that runs a holder while it has the lock. One goroutine at a time uses it.
type faultPod struct {
	w      *world
	key    string
	i      int // of those with the same key
	argv   []string
	rand   *rand.Rand
	cmd    *exec.Cmd
	exited chan struct{}
	log    string
	thaws  []thawed
}

// pod starts a process-wrapper whose holder ends by itself after a time between least and most.
func (w *world) pod(key string, i int, ways []*lossy, least, most time.Duration) *faultPod {
	w.t.Helper()
	dir := w.t.TempDir()
	p := &faultPod{w: w, key: key, i: i, rand: rand.New(rand.NewPCG(w.rand.Uint64(), 4)), log: filepath.Join(dir, "log")}
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(`- name: job
  entrypoint: %s
  args: [-file, %s, -register, %s, -least, %s, -most, %s, -tree]
  backoff: {initial: 20ms, factor: 1}
  stopTimeout: 2s
  readiness: {lock: {key: %s, ttlDuration: %s}}
`, w.holder, w.stamps(key, i), w.register(key), least, most, key, w.o.ttl)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	p.argv = []string{w.o.wrapper, "-config", config, "-control-socket", "none", "-readiness-file", filepath.Join(dir, "started"),
		"-shared-lock-url", strings.Join(urls(ways), ",")}
	p.start()
	w.pods = append(w.pods, p)
	return p
}

func (p *faultPod) start() {
	out, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		p.w.t.Error(err)
		return
	}
	defer out.Close() // it has its own
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env, cmd.Stderr = environment("HEALTH_SOCKET=127.0.0.1:0"), out
	if err := cmd.Start(); err != nil {
		p.w.t.Error(err)
		return
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	p.w.wg.Go(func() {
		_ = cmd.Wait() // it may be killed
		close(exited)
	})
}

func (p *faultPod) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) } // it may have ended

// stop ends the process-wrapper as Kubernetes does.
func (p *faultPod) stop() {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		p.w.t.Errorf("%s.%d did not end within 10 s of SIGTERM:\n%s", p.key, p.i, p.tail())
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// tail is the end of its log.
func (p *faultPod) tail() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-3000):])
}

// url is where it listens, once it does.
func (p *faultPod) url() string {
	p.w.t.Helper()
	var found string
	eventually(p.w.t, "process-wrapper listens", func() error {
		text, _ := os.ReadFile(p.log)
		if m := listening.FindAllStringSubmatch(string(text), -1); m != nil {
			found = "http://" + m[len(m)-1][1]
			return nil
		}
		return errors.New("its log does not say so")
	})
	return found
}

// family is the processes below the process-wrapper.
type family struct {
	guardian int // 0: there is none
	tree     []int
}

func (p *faultPod) family() (f family) {
	for _, d := range descendants(p.w.t, p.cmd.Process.Pid) {
		argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.pid)) // it may be gone
		switch name, _, _ := strings.Cut(string(argv), "\x00"); {
		case name == "process-wrapper-guardian":
			f.guardian = d.pid
		case strings.Contains(string(argv), p.w.dir): // the holder; not one that is about to be
			f.tree = append(f.tree, d.pid)
		}
	}
	return f
}

// live has faults come over the pod until ctx ends.
func (p *faultPod) live(ctx context.Context) {
	for {
		pause(ctx, time.Duration(500+p.rand.IntN(5000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		p.fault(ctx)
	}
}

// long is longer than a TTL.
func (p *faultPod) long() time.Duration {
	return p.w.o.ttl*3/2 + time.Duration(p.rand.Int64N(int64(p.w.o.ttl)))
}

func (p *faultPod) fault(ctx context.Context) {
	f := p.family()
	kind := p.rand.IntN(8)
	if len(f.tree) == 0 {
		kind = 5 + p.rand.IntN(3)
	}
	switch kind {
	case 0:
		p.did("a holder is killed")
		send(syscall.SIGKILL, f.tree[p.rand.IntN(len(f.tree))])
	case 1:
		p.did("a holder freezes")
		send(syscall.SIGSTOP, f.tree...)
		pause(ctx, p.long())
		send(syscall.SIGCONT, f.tree...)
	case 2:
		p.did("a guardian is killed")
		send(syscall.SIGKILL, f.guardian)
	case 3, 4:
		p.freeze()
	case 5:
		p.did("a wrapper is killed")
		p.signal(syscall.SIGKILL)
		<-p.exited
		pause(ctx, time.Duration(p.rand.IntN(1500))*time.Millisecond)
		p.start()
	case 6:
		p.did("a wrapper freezes")
		p.signal(syscall.SIGSTOP)
		pause(ctx, p.long())
		p.signal(syscall.SIGCONT)
	case 7:
		p.did("a wrapper is stopped")
		p.stop()
		p.start()
	}
}

// did counts a fault and notes it.
func (p *faultPod) did(what string) {
	p.w.did(what)
	p.note(what)
}

// note writes a line into the log of the pod, for people.
func (p *faultPod) note(what string) {
	if f, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
		defer f.Close()
		fmt.Fprintf(f, "time=%s test: %s, %d at %d\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), what, p.cmd.Process.Pid, boottime())
	}
}

// send signals processes, which may be gone.
func send(sig syscall.Signal, pids ...int) {
	for _, pid := range pids {
		if pid > 0 {
			_ = syscall.Kill(pid, sig)
		}
	}
}

// freeze is a time in which nothing of a pod ran, neither holder nor wrapper nor guardian.
type freeze struct{ from, thaw int64 }

// thawed is how long a tree lived on after a thaw, and how much of that this test itself was kept waiting.
type thawed struct{ lived, late time.Duration }

// freeze stops all of a pod for longer than its lock is good. After the thaw the tree is to die at once;
// that it does no harm until then is left to the register.
func (p *faultPod) freeze() {
	from := boottime()
	all, names := p.halt()
	if len(names) == 0 { // its holder had just ended, or was just being started
		send(syscall.SIGCONT, all...)
		return
	}
	p.did("a pod freezes")
	pause(context.Background(), p.long())
	p.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	send(syscall.SIGCONT, all...)
	thaw := boottime()
	p.w.mu.Lock()
	for _, name := range names {
		p.w.frozen[name] = freeze{from, thaw}
	}
	p.w.mu.Unlock()
	var late int64 // so long this test itself was kept waiting by a busy machine
	for end := time.Now().Add(5 * time.Second); slices.ContainsFunc(slices.Collect(maps.Keys(names)), alive) && time.Now().Before(end); {
		due := boottime() + int64(2*time.Millisecond)
		pause(context.Background(), time.Millisecond)
		late += max(boottime()-due, 0)
	}
	p.thaws = append(p.thaws, thawed{time.Duration(boottime() - thaw), time.Duration(late)})
	p.note("a frozen tree is dead")
}

// halt stops process-wrapper and all below it. It returns who was stopped, and the locks of the tree by
// process: none if there is a process that is not the program yet that it is to be, or that does not stop.
func (p *faultPod) halt() (all []int, names map[int]lockName) {
	for range 100 {
		all, names = []int{p.cmd.Process.Pid}, map[int]lockName{}
		send(syscall.SIGSTOP, all...)
		stopped, f := true, p.family()
		for _, d := range descendants(p.w.t, p.cmd.Process.Pid) {
			send(syscall.SIGSTOP, d.pid)
			stopped = stopped && (d.state == "T" || d.state == "Z")
			all = append(all, d.pid)
			if token := tokenOf(d.pid); token > 0 {
				names[d.pid] = lockName{p.key, token}
			}
			if d.state != "Z" && d.pid != f.guardian && names[d.pid].token == 0 {
				return all, nil
			}
		}
		if stopped && stateOf(p.cmd.Process.Pid) == 'T' {
			return all, names
		}
		pause(context.Background(), time.Millisecond)
	}
	return all, nil
}

// stateOf is the state of a process, 0 if it is gone.
func stateOf(pid int) byte {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest != "" {
		return rest[0]
	}
	return 0
}

// alive tells if a process is there and no zombie.
func alive(pid int) bool {
	state := stateOf(pid)
	return state != 0 && state != 'Z' && state != 'X'
}

// tokenOf is the token that a holder was given, 0 if it is gone.
func tokenOf(pid int) int64 {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for v := range strings.SplitSeq(string(env), "\x00") {
		if text, ok := strings.CutPrefix(v, "SHARED_LOCK_TOKEN="); ok {
			token, _ := strconv.ParseInt(text, 10, 64)
			return token
		}
	}
	return 0
}

// leftovers are holders of this world that run, and guardians where nobody else has any of its binary.
func (w *world) leftovers(guardians bool) (found []process) {
	for _, all := range processes(w.t) {
		for _, d := range all {
			argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.pid)) // it may be gone
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", d.pid))
			guards := guardians && exe == w.o.wrapper && strings.HasPrefix(string(argv), "process-wrapper-guardian\x00")
			if holds := exe == w.holder && strings.Contains(string(argv), w.dir); guards || holds {
				found = append(found, d)
			}
		}
	}
	return found
}

// end kills what is left of the world.
func (w *world) end() {
	w.cancel()
	w.lives.Wait()
	for _, p := range w.pods {
		p.signal(syscall.SIGKILL)
	}
	w.wg.Wait()
	for _, d := range w.leftovers(false) {
		send(syscall.SIGKILL, d.pid)
	}
}
