package e2e

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lockTrio is three replicas on three members of etcd.
type lockTrio struct {
	etcd *etcdCluster
	all  []*lockServer
}

func startLockTrio(t *testing.T) *lockTrio {
	t.Helper()
	c := &lockTrio{etcd: startEtcdCluster(t, 3)}
	for range 3 {
		c.all = append(c.all, startLockReplica(t, strings.Join(c.etcd.endpoints(), ",")))
	}
	return c
}

// keeper renews a lock at the replicas in turns and notes what was never to be.
type keeper struct {
	t     *testing.T
	key   string
	ttl   time.Duration
	token int64
	at    func(n int) *lockServer
	stop  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	last   time.Time  // before the last renewal that was answered with 200 was sent
	ack    time.Time  // of its answer
	good   int
	failed int
}

// keep acquires a key and renews it until the returned keeper is stopped.
func (c *lockTrio) keep(t *testing.T, key string, ttl time.Duration, at func(n int) *lockServer) *keeper {
	t.Helper()
	k := &keeper{t: t, key: key, ttl: ttl, at: at, stop: make(chan struct{}), last: time.Now()}
	status, token := at(0).ask(t, "POST", "/v1/locks/"+key+"/acquire", fmt.Sprintf(`{"ttl":"%s","owner":"keeper"}`, ttl))
	if status != 201 {
		t.Fatalf("acquire %s: %d", key, status)
	}
	k.token, k.ack = token, time.Now()
	k.wg.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-k.stop:
				return
			case <-time.After(100 * time.Millisecond):
				k.renew(at(n))
			}
		}
	})
	t.Cleanup(k.end)
	return k
}

func (k *keeper) renew(s *lockServer) {
	sent := time.Now()
	status := k.ask(s, "PUT", "/renew", fmt.Sprintf(`{"token":%d}`, k.token))
	k.mu.Lock()
	defer k.mu.Unlock()
	switch status {
	case 200:
		k.last, k.ack, k.good = sent, time.Now(), k.good+1
	case 0, 503:
		k.failed++
	default:
		k.t.Errorf("%s: a renewal got %d", k.key, status)
	}
}

// ask gives up soon, as a holder has to.
func (k *keeper) ask(s *lockServer, method, op, body string) int {
	status, _ := s.askWithin(k.t, k.ttl/3, method, "/v1/locks/"+k.key+op, body)
	return status
}

// end stops the renewals.
func (k *keeper) end() {
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.wg.Wait()
}

// renewals counts those that were answered with 200.
func (k *keeper) renewals() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.good
}

// more waits for further renewals to succeed.
func (k *keeper) more(n int) {
	k.t.Helper()
	before := k.renewals()
	eventually(k.t, k.key+" is renewed", func() error {
		if got := k.renewals() - before; got < n {
			return fmt.Errorf("%d renewals", got)
		}
		return nil
	})
}

// excludes checks that nobody else gets the key.
func (k *keeper) excludes(s *lockServer) {
	k.t.Helper()
	if status := k.ask(s, "POST", "/acquire", `{"ttl":"200ms"}`); status != 409 && status != 503 && status != 0 {
		k.t.Errorf("%s: another acquires and gets %d", k.key, status)
	}
}

// freedIn waits for the key to be free, and checks that it is not before its TTL.
func (k *keeper) freedIn(s *lockServer, most time.Duration) {
	k.t.Helper()
	k.end()
	var token int64
	eventually(k.t, k.key+" is free", func() (err error) {
		var status int
		if status, token = s.ask(k.t, "POST", "/v1/locks/"+k.key+"/acquire", `{"ttl":"10s"}`); status != 201 {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	if free := time.Now(); free.Sub(k.last) < k.ttl || free.Sub(k.ack) > most {
		k.t.Errorf("%s: free %s after the last renewal was sent and %s after its answer, want %s to %s", k.key, free.Sub(k.last), free.Sub(k.ack), k.ttl, most)
	}
	if token <= k.token {
		k.t.Errorf("%s: token %d after %d", k.key, token, k.token)
	}
}

func TestLocksOutliveFaultsOfEtcdAndReplicas(t *testing.T) {
	c := startLockTrio(t)
	turns := func(n int) *lockServer { return c.all[n%3] }
	t.Run("renewals at all replicas in turns", func(t *testing.T) {
		k := c.keep(t, "turns", 2*time.Second, turns)
		quietly(t, 5*time.Second, func() error { k.excludes(c.all[1]); return nil })
		k.freedIn(c.all[2], k.ttl+2*time.Second)
	})
	t.Run("the leader of etcd is killed", func(t *testing.T) {
		k := c.keep(t, "leader", 15*time.Second, turns)
		m := c.etcd.leader()
		m.kill()
		k.excludes(c.all[0])
		k.more(10)
		k.excludes(c.all[1])
		m.start(t)
		c.etcd.healthy()
		k.freedIn(c.all[0], k.ttl+5*time.Second)
	})
	t.Run("the leader of etcd freezes", func(t *testing.T) {
		k := c.keep(t, "frozen", 15*time.Second, turns)
		m := c.etcd.leader()
		m.signal(syscall.SIGSTOP)
		k.excludes(c.all[0])
		k.more(20)
		k.excludes(c.all[1])
		m.signal(syscall.SIGCONT)
		k.more(10)
		c.etcd.healthy()
	})
	t.Run("each replica is restarted", func(t *testing.T) {
		k := c.keep(t, "restart", 15*time.Second, turns)
		for i, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
			c.all[i].end(t, sig)
			k.more(5)
			k.excludes(c.all[(i+1)%3])
			c.all[i].again(t)
			c.all[i].stderr.waitFor(t, lockListens)
		}
		k.more(5)
	})
	t.Run("the replica that keeps the time freezes and wakes up late", func(t *testing.T) {
		k := c.keep(t, "thaw", 2*time.Second, func(n int) *lockServer { return c.all[min(n, 1)] })
		lone := c.keep(t, "lone", 8*time.Second, func(int) *lockServer { return c.all[0] })
		k.more(3)
		lone.end()
		c.all[0].signal(syscall.SIGSTOP)
		quietly(t, 5*time.Second, func() error { k.excludes(c.all[2]); return nil })
		c.all[0].signal(syscall.SIGCONT)
		quietly(t, time.Second, func() error { k.excludes(c.all[0]); return nil })
		k.more(3)
		lone.freedIn(c.all[1], lone.ttl+2*time.Second)
	})
}

// A holder and the replica that keeps its time die at once: another replica takes over.
func TestALockOfADeadHolderAndADeadReplicaIsFreed(t *testing.T) {
	t.Parallel()
	c := startLockTrio(t)
	k := c.keep(t, "dead", 2*time.Second, func(int) *lockServer { return c.all[0] })
	k.more(3)
	k.end()
	c.all[0].crash()
	k.freedIn(c.all[1], 15*time.Second)
}
