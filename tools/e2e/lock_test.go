package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// lockProxy stands between process-wrapper and shared-lock, for faults.
type lockProxy struct {
	*httptest.Server
	fault atomic.Pointer[http.HandlerFunc]

	mu   sync.Mutex // guards good
	good time.Duration
}

type received struct{}

func startLockProxy(t *testing.T, behind string) *lockProxy {
	t.Helper()
	u, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	p := &lockProxy{}
	pass := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	pass.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	pass.ModifyResponse = func(r *http.Response) error {
		if m := r.Request.Method; r.StatusCode < 300 && (m == http.MethodPut || m == http.MethodPost) {
			p.mu.Lock()
			defer p.mu.Unlock()
			at, _ := r.Request.Context().Value(received{}).(time.Duration)
			p.good = max(p.good, at)
		}
		return nil
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := p.fault.Load(); f != nil {
			(*f)(w, r)
			return
		}
		pass.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), received{}, sinceBoot())))
	}))
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	return p
}

// lastGood is when the last request was received that shared-lock granted.
func (p *lockProxy) lastGood() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good
}

func (p *lockProxy) fails(f http.HandlerFunc) { p.fault.Store(&f) }

func lockWrapper(t *testing.T, config, server string) *wrapper {
	t.Helper()
	return start(t, options{config: config, args: []string{"-shared-lock-url", server}})
}

func TestAHolderDrainsBeforeTheNextOneStarts(t *testing.T) {
	t.Parallel()
	const ttl, drain = time.Second, 3 * time.Second
	s := startSharedLock(t, t.TempDir())
	config, file := holder(t, "ttlDuration: "+ttl.String()+", key: team/job", "  "+holderDrain+": "+drain.String(), "stopTimeout: 9s")
	config = begins(config)
	a := lockWrapper(t, config, s.url)
	first := holds(t, file, 1)
	b := lockWrapper(t, config, s.url)
	st := b.in("job", "standby")
	if want := `waiting for its lock: held by "job"`; !strings.HasPrefix(st.Detail, want) {
		t.Errorf("the standby says %q, want %q", st.Detail, want)
	}
	b.says(200, 200)
	if _, err := os.Stat(b.readinessFile); err != nil {
		t.Errorf("a standby has no readiness file: %v", err)
	}
	if _, body := b.get("/status"); !strings.Contains(body, `"job":false`) {
		t.Errorf("/status of the standby: %s", body)
	}
	if held := a.metric(`process_wrapper_lock_held{process_name="job"}`); held != 1 {
		t.Errorf("lock_held is %v", held)
	}
	began := time.Now()
	if got := a.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if took := time.Since(began); took < drain {
		t.Errorf("it had %v to drain, of %v", took, drain)
	}
	holds(t, file, 2)
	all := judge(t, file)
	if gap := begun(t, file) - all[0].last; gap > 500*time.Millisecond {
		t.Errorf("the next holder came %v after the end", gap)
	} else {
		t.Logf("the next holder came %v after the end", gap)
	}
	if first.token != all[0].token || b.metric(`process_wrapper_lock_acquisitions_total{process_name="job",result="acquired"}`) != 1 {
		t.Errorf("%+v", all)
	}
}

// Whatever happens to who could renew or kill, the holder and all that it started are dead before the
// server may give the lock away: a TTL after it received the last request that it granted.
func TestAHoldersTreeIsDeadBeforeItsLockCanEnd(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	faults := map[string]func(s *lockScene){
		"a killed wrapper":  func(s *lockScene) { s.w.signal(syscall.SIGKILL) },
		"a stopped wrapper": func(s *lockScene) { s.w.signal(syscall.SIGSTOP) },
		"a killed server":   func(s *lockScene) { _ = s.server.cmd.Process.Kill() },
		"a frozen server":   func(s *lockScene) { s.server.signal(syscall.SIGSTOP) },
		"a frozen etcd":     func(s *lockScene) { s.etcd.signal(syscall.SIGSTOP) },
		"always 500": func(s *lockScene) {
			s.proxy.fails(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		},
		"refused": func(s *lockScene) { _ = s.proxy.Listener.Close(); s.proxy.CloseClientConnections() },
		"a black hole": func(s *lockScene) {
			s.proxy.fails(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that it is seen when the client leaves
				select {
				case <-r.Context().Done():
				case <-time.After(patience):
				}
			})
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range trials(t, 1) {
				t.Run(fmt.Sprint(i), func(t *testing.T) { holderDiesInTime(t, ttl, fault) })
			}
		})
	}
}

// lockScene is a holder, and all that its lock depends on.
type lockScene struct {
	w            *wrapper
	proxy        *lockProxy
	server, etcd *lockServer
}

func holderDiesInTime(t *testing.T, ttl time.Duration, fault func(*lockScene)) {
	t.Helper()
	s := &lockScene{etcd: startSharedLock(t, t.TempDir(), "-etcd-prefix", "/unused/")}
	s.server = startLockReplica(t, s.etcd.stderr.waitFor(t, embeddedServes)[1])
	p := startLockProxy(t, s.server.url)
	config, file := holder(t, "ttlDuration: "+ttl.String())
	w := lockWrapper(t, config, p.URL)
	s.w, s.proxy = w, p
	first := holds(t, file, 1)
	<-time.After(ttl/2 + time.Duration(time.Now().UnixNano())%(ttl/2)) // at any time between two renewals
	fault(s)
	t.Cleanup(func() {
		s.server.signal(syscall.SIGCONT)
		s.etcd.signal(syscall.SIGCONT)
		_ = syscall.Kill(w.pid, syscall.SIGCONT) // it may have ended
	})
	last := dead(t, file, first.token)
	left := p.lastGood() + ttl - last
	if left <= 0 {
		t.Errorf("it lived for %v after its lock", -left)
	}
	t.Logf("dead %v before the end", left)
	judge(t, file)
	for _, pid := range first.pids {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(text), ") Z ") {
			t.Errorf("process %d is still there: %s", pid, text)
		}
	}
}

func TestAnotherPodTakesOverFromAKilledOne(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	config, file := holder(t, "ttlDuration: 1s, key: $(POD)")
	config = strings.Replace(config, "  envs:\n", "  envs:\n    POD: same\n", 1)
	a := lockWrapper(t, config, s.url)
	holds(t, file, 1)
	b := lockWrapper(t, config, s.url)
	b.in("job", "standby")
	a.signal(syscall.SIGKILL)
	began := time.Now()
	holds(t, file, 2)
	within(t, began, 3*time.Second, "the next one runs")
	judge(t, file)
	b.ready()
}

func TestAWrapperThatWasStoppedGoesOn(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	config, file := holder(t, "ttlDuration: 1s", "backoff: {initial: 100ms}")
	w := lockWrapper(t, config, s.url)
	first := holds(t, file, 1)
	w.signal(syscall.SIGSTOP)
	dead(t, file, first.token)
	w.signal(syscall.SIGCONT)
	holds(t, file, 2)
	judge(t, file)
	if st := w.until("job", "is ready again", func(s state) bool { return s.Ready }); st.Restarts != 1 {
		t.Errorf("%+v", st)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(strings.Replace(config, "  readiness: {lock: {ttlDuration: 1s}}\n", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	w.until("job", "has no lock any more", func(s state) bool {
		_, body := w.get("/v1/processes/job")
		return s.Ready && s.Restarts == 2 && strings.Contains(body, `"lock":null`)
	})
}

func TestALockThatIsFreedByForceKillsAndRestarts(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	config, file := holder(t, "ttlDuration: 20s")
	w := lockWrapper(t, config, s.url)
	first := holds(t, file, 1)
	<-time.After(300 * time.Millisecond)
	out, err := exec.Command(filepath.Join(bin, "shared-lock"), "release", "-shared-lock-url", s.url, "-force", "job").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	at := sinceBoot() // the command takes its time to start
	if took := dead(t, file, first.token) - at; took > time.Second {
		t.Errorf("it lived on for %v", took)
	}
	st := w.until("job", "is started again", func(s state) bool { return s.Restarts == 1 && s.Phase == "ready" })
	if st.Reason != "lock" || !strings.Contains(st.Cause, "the server says that the lock is gone") {
		t.Errorf("%+v", st)
	}
	holds(t, file, 2)
	judge(t, file)
	if n := w.metric(`process_wrapper_lock_lost_total{process_name="job",reason="gone"}`); n != 1 {
		t.Errorf("lost %v times", n)
	}
}

func TestACrashCostsNoTimeForTheLock(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	w := lockWrapper(t, script("job", `sleep 0.2; exit 1`, "readiness: {lock: {ttlDuration: 10s}}", "backoff: {initial: 300ms, factor: 1, jitter: 0}"), s.url)
	w.until("job", "has crashed five times", func(s state) bool { return s.Restarts >= 5 })
	stamp := regexp.MustCompile(`time=(\S+) level=\w+ msg="(ended, will be started again|started)" name=job`)
	var ended time.Time
	restarts := 0
	for _, m := range stamp.FindAllStringSubmatch(w.stderr.String(), -1) {
		at, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			t.Fatal(err)
		}
		if m[2] != "started" {
			ended = at
			continue
		}
		if !ended.IsZero() {
			restarts++
			if took := at.Sub(ended); took < 290*time.Millisecond || took > 1300*time.Millisecond {
				t.Errorf("restart %d came after %v", restarts, took)
			} else {
				t.Logf("restart %d came after %v", restarts, took)
			}
		}
	}
	if restarts < 4 {
		t.Errorf("only %d restarts are in the log:\n%s", restarts, w.stderr)
	}
}

func TestAStandbyKeepsThePodUnreadyWhereItIsToldTo(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	config, file := holder(t, "ttlDuration: 2s, standbyReady: false")
	a := lockWrapper(t, config, s.url)
	holds(t, file, 1)
	b := lockWrapper(t, config, s.url)
	b.in("job", "standby")
	b.says(503, 200)
	if status := ctlOut(t, a, "status"); !strings.Contains(status, "holds lock job") {
		t.Errorf("ctl status of the holder says\n%s", status)
	}
	if status := ctlOut(t, b, "status"); !strings.Contains(status, "waiting for its lock") {
		t.Errorf("ctl status says\n%s", status)
	}
}

func ctlOut(t *testing.T, w *wrapper, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "process-wrapper"), append([]string{"ctl", "-control-socket", w.socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctl %v: %v %s", args, err, out)
	}
	return string(out)
}

// A probe of a sibling that takes its time must not delay a renewal.
func TestALockSurvivesASlowProbeBesideIt(t *testing.T) {
	t.Parallel()
	long := 15 * time.Second
	if os.Getenv("LOCK_TRIALS") != "" {
		long = 10 * time.Minute
	}
	s := startSharedLock(t, t.TempDir())
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(4 * time.Second):
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { slow.CloseClientConnections(); slow.Close() })
	config, file := holder(t, "")
	w := lockWrapper(t, config+script("slow", forever, "readiness: {delay: 0s, period: 5s, http: {url: "+slow.URL+"}}"), s.url)
	holds(t, file, 1)
	<-time.After(long)
	if st := w.states()["job"]; st.Restarts != 0 || !st.Ready {
		t.Errorf("%+v", st)
	}
	for _, reason := range []string{"gone", "late"} {
		if n := w.metric(`process_wrapper_lock_lost_total{process_name="job",reason="` + reason + `"}`); n != 0 {
			t.Errorf("lost %v times: %s", n, reason)
		}
	}
}

func TestAReloadWithAnotherLock(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	config, file := holder(t, "key: one")
	w := lockWrapper(t, config, s.url)
	holds(t, file, 1)
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(strings.Replace(config, "key: one", "key: two", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	holds(t, file, 2)
	judge(t, file)
	for key, want := range map[string]int{"one": 404, "two": 200} {
		if status, _ := s.ask(t, "GET", "/v1/locks/"+key, ""); status != want {
			t.Errorf("lock %s: %d, want %d", key, status, want)
		}
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if status, _ := s.ask(t, "GET", "/v1/locks/two", ""); status != 404 {
		t.Errorf("the lock is there after the end: %d", status)
	}
	if text := w.stderr.String(); strings.Contains(text, "left behind") {
		t.Errorf("the guardian was left behind:\n%s", text)
	}
}

func TestProcessWrapperRunsSharedLock(t *testing.T) {
	t.Parallel()
	etcd := startSharedLock(t, t.TempDir())
	endpoint := etcd.stderr.waitFor(t, embeddedServes)[1]
	s := startLockServer(t, []string{"SHARED_LEASE_SOCKET=127.0.0.1:0", "SHARED_LEASE_ETCD_ENDPOINTS=" + endpoint}, filepath.Join(bin, "process-wrapper"), "-shared-lock")
	s.url = "http://" + s.stderr.waitFor(t, lockListens)[1]
	if status, _ := s.ask(t, "POST", "/v1/locks/a/acquire", `{}`); status != 201 {
		t.Errorf("acquire: %d", status)
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid)); err != nil || filepath.Base(exe) != "shared-lock" {
		t.Errorf("it runs %s, %v", exe, err)
	}
	alone := filepath.Join(t.TempDir(), "process-wrapper")
	text, err := os.ReadFile(filepath.Join(bin, "process-wrapper"))
	if err == nil {
		err = os.WriteFile(alone, text, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(alone, "-shared-lock")
	cmd.Env = []string{"PATH=/nowhere"}
	out, err := cmd.CombinedOutput()
	if got := code(t, err); got != 1 || !strings.Contains(string(out), "there is no binary shared-lock in "+filepath.Dir(alone)+" or PATH: install it there") {
		t.Errorf("exit code %d: %s", got, out)
	}
}
