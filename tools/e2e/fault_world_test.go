package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// world is members of etcd, replicas of shared-lock, and proxies before each of them.
type world struct {
	t        *testing.T
	o        worldOptions
	etcd     *etcdCluster
	replicas []*lockServer
	backs    [][]*lossy // from each replica to each member
	direct   []*lossy   // from plain clients to each replica
	noted    []*lossy   // from process-wrappers to the ledger before each replica
	behind   []string   // addresses of the ledger before each replica
	notes    *chronicle
	ledger   *ledger
	holder   string // the command of holders
	dir      string // of their stamps and registers
	pods     []*faultPod
	rand     *rand.Rand
	base     []map[string]float64 // goroutines and descriptors of each replica at the begin

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lives  sync.WaitGroup // of those who have faults come over pods

	mu     sync.Mutex // guards what follows
	faults map[string]int
	frozen map[lockName]freeze
}

type worldOptions struct {
	members, replicas int
	ttl               time.Duration // of all locks
	seed              uint64
	server, wrapper   string // binaries
}

func startWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	w := &world{t: t, o: o, etcd: startEtcdCluster(t, o.members), rand: rand.New(rand.NewPCG(o.seed, 1)), dir: t.TempDir(),
		notes: &chronicle{intervals: map[string][]interval{}, fence: map[string]int64{}}, faults: map[string]int{}, frozen: map[lockName]freeze{}}
	w.ledger = newLedger(w.notes)
	var err error
	if w.holder, err = holderTool(); err != nil {
		t.Fatal(err)
	}
	w.ctx, w.cancel = context.WithCancel(t.Context())
	for range o.replicas {
		var back []*lossy
		var endpoints []string
		for _, m := range w.etcd.members {
			p := startLossy(t, m.endpoint)
			back, endpoints = append(back, p), append(endpoints, p.address())
		}
		address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		s := startLockServer(t, []string{"SHARED_LEASE_ETCD_ENDPOINTS=" + strings.Join(endpoints, ",")}, o.server, "-listen", address)
		s.url = "http://" + address
		s.stderr.waitFor(t, lockListens)
		w.replicas, w.backs = append(w.replicas, s), append(w.backs, back)
		w.direct = append(w.direct, startLossy(t, address))
		w.behind = append(w.behind, w.ledger.recorder(t, address))
	}
	w.noted = w.ways()
	t.Cleanup(w.end)
	return w
}

// ways are new proxies from process-wrappers to the replicas.
func (w *world) ways() (all []*lossy) {
	for _, address := range w.behind {
		all = append(all, startLossy(w.t, address))
	}
	return all
}

// measure notes what the replicas use while nothing happens.
func (w *world) measure() {
	w.t.Helper()
	for i, s := range w.replicas { // what each needs all the time begins with the first lock
		if status, _ := s.ask(w.t, "POST", fmt.Sprintf("/v1/locks/warm%d/acquire", i), `{"ttl":"200ms"}`); status != 201 {
			w.t.Fatalf("acquire: %d", status)
		}
	}
	pause(w.ctx, 2*time.Second)
	for _, s := range w.replicas {
		w.base = append(w.base, usage(w.t, s.url))
	}
}

// usage is how many goroutines and descriptors a program has.
func usage(t *testing.T, url string) map[string]float64 {
	t.Helper()
	s := &lockServer{url: url}
	return map[string]float64{"go_goroutines": s.gauge(t, "go_goroutines"), "process_open_fds": s.gauge(t, "process_open_fds")}
}

func urls(ways []*lossy) (all []string) {
	for _, p := range ways {
		all = append(all, "http://"+p.address())
	}
	return all
}

// plain returns a client that speaks /v1.
func (w *world) plain(id int, keys ...string) *plain {
	return &plain{id: id, keys: keys, urls: urls(w.direct), ttl: w.o.ttl, notes: w.notes, rand: rand.New(rand.NewPCG(w.rand.Uint64(), 2)),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second}}}
}

// clients starts clients that speak /v1, on keys that nobody else uses.
func (w *world) clients(n, keys int) {
	var names []string
	for i := range keys {
		names = append(names, fmt.Sprintf("plain%d", i))
	}
	for i := range n {
		p := w.plain(i, names...)
		w.wg.Go(func() { p.run(w.ctx) })
	}
}

// commands starts two holders for each key which run a command under the lock again and again.
func (w *world) commands(keys int) {
	for key := range keys {
		for i := range 2 {
			r := rand.New(rand.NewPCG(w.rand.Uint64(), 3))
			w.wg.Go(func() {
				for w.ctx.Err() == nil {
					w.command(fmt.Sprintf("run%d", key), i, r)
				}
			})
		}
	}
}

func (w *world) stamps(key string, i int) string {
	return filepath.Join(w.dir, fmt.Sprintf("%s.%d", key, i))
}
func (w *world) register(key string) string { return filepath.Join(w.dir, key+".register") }

// command holds a key once. Sometimes who runs it is killed.
func (w *world) command(key string, i int, r *rand.Rand) {
	cmd := exec.Command(w.o.server, "run", "-shared-lock-url", urls(w.direct)[r.IntN(len(w.direct))], "-ttl", w.o.ttl.String(), "-wait", "3s", key, "--",
		w.holder, "-file", w.stamps(key, i), "-register", w.register(key), "-least", "200ms", "-most", "2s")
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

// did counts a fault.
func (w *world) did(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[what]++
}

// disturb makes faults of servers and the network until ctx ends, one after another, and a new leader of
// etcd every 6 s.
func (w *world) disturb(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			pause(ctx, 6*time.Second)
			if ctx.Err() != nil {
				return
			}
			m := w.leader(ctx)
			if m == nil {
				continue
			}
			w.did("a leader of etcd is killed")
			m.kill()
			pause(ctx, 1500*time.Millisecond)
			m.start(w.t)
		}
	})
	for ctx.Err() == nil {
		pause(ctx, time.Duration(w.rand.IntN(600))*time.Millisecond)
		w.fault(ctx, w.rand.IntN(len(w.replicas)), time.Duration(300+w.rand.IntN(2200))*time.Millisecond)
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
	mode := []int32{drops, delays, halfOpen, oneWay}[w.rand.IntN(4)]
	var ways []*lossy
	switch w.rand.IntN(5) {
	case 0:
		w.did("a replica freezes")
		s.signal(syscall.SIGSTOP)
		pause(ctx, d)
		s.signal(syscall.SIGCONT)
		return
	case 1:
		w.did("a replica is killed")
		s.crash()
		pause(ctx, d/2)
		s.again(w.t)
		return
	case 2: // between clients and it
		ways = []*lossy{w.direct[i], w.noted[i]}
	case 3: // between it and etcd
		ways = w.backs[i]
	case 4: // between it and one member
		one := w.rand.IntN(len(w.backs[i]))
		ways = w.backs[i][one : one+1]
	}
	w.did("the network " + []string{"", "drops", "delays", "is half open", "is one way"}[mode])
	for _, p := range ways {
		p.set(mode)
	}
	pause(ctx, d)
	for _, p := range ways {
		p.set(passes)
	}
}
