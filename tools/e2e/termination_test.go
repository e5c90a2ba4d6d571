package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

type object = map[string]any

// kubernetes is an API server with one pod, over TLS with a CA of its own, which lets nobody in
// without the token that is good now.
type kubernetes struct {
	t       *testing.T
	srv     *httptest.Server
	account string // directory of the service account

	mu       sync.Mutex // guards what follows
	token    string
	pod      object
	broken   int                                          // status code of all answers, 0: they are good
	hostile  func(w http.ResponseWriter, r *http.Request) // instead of an answer to a watch that is let in; nil: a good one
	requests int
	changed  chan struct{} // closed at the next change
}

func newKubernetes(t *testing.T) *kubernetes {
	t.Helper()
	k := &kubernetes{t: t, account: t.TempDir(), changed: make(chan struct{})}
	k.srv = httptest.NewTLSServer(k)
	t.Cleanup(func() {
		k.srv.CloseClientConnections()
		k.srv.Close()
	})
	k.file("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.srv.Certificate().Raw})))
	k.file("namespace", "shop")
	k.rotate("first")
	k.pod = pod("Never", nil, nil)
	return k
}

func (k *kubernetes) file(name, text string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.account, name), []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// rotate makes another token the good one.
func (k *kubernetes) rotate(token string) {
	k.change(func() { k.token = token })
	k.file("token", token+"\n")
}

func (k *kubernetes) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
}

// asked says whether there were that many requests.
func (k *kubernetes) asked(least int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.requests < least {
		return fmt.Errorf("%d requests", k.requests)
	}
	return nil
}

func (k *kubernetes) env(more ...string) []string {
	host, port, _ := net.SplitHostPort(k.srv.Listener.Addr().String())
	return append(more, "HANDLE_TERMINATION=true", "POD_NAME=report-x7", "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
}

func (k *kubernetes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.requests++
	good, broken, current, changed := k.token, k.broken, k.pod, k.changed
	k.mu.Unlock()
	fail := func(code int) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(object{"kind": "Status", "code": code, "message": http.StatusText(code)})
	}
	q := r.URL.Query()
	switch {
	case broken != 0:
		fail(broken)
		return
	case r.Header.Get("Authorization") != "Bearer "+good:
		fail(http.StatusUnauthorized)
		return
	case r.Method != http.MethodGet || r.URL.Path != "/api/v1/namespaces/shop/pods" || q.Get("fieldSelector") != "metadata.name=report-x7":
		fail(http.StatusForbidden) // the Role allows no more
		return
	case q.Get("watch") == "":
		_ = json.NewEncoder(w).Encode(object{"items": []any{current}})
		return
	case k.hostile != nil:
		k.hostile(w, r)
		return
	}
	for {
		_ = json.NewEncoder(w).Encode(object{"type": "MODIFIED", "object": current})
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		k.mu.Lock()
		current, changed = k.pod, k.changed
		k.mu.Unlock()
	}
}

// pod is one with the containers report, proxy and ours, of which some have ended.
func pod(restartPolicy string, ended map[string]int, conditions []any) object {
	containers, statuses := []any{}, []any{}
	for _, name := range []string{"report", "proxy", "wrapper"} {
		state := object{"running": object{}}
		if code, ok := ended[name]; ok {
			state = object{"terminated": object{"exitCode": code}}
		}
		containers = append(containers, object{"name": name})
		statuses = append(statuses, object{"name": name, "state": state})
	}
	return object{
		"metadata": object{"name": "report-x7"},
		"spec":     object{"restartPolicy": restartPolicy, "containers": containers},
		"status":   object{"containerStatuses": statuses, "conditions": conditions},
	}
}

var seenTERM = regexp.MustCompile(`msg="told to end"`)

// polite says when it is told to end.
const polite = `trap 'echo told to end; exit 0' TERM; echo awake; sleep 1000 & wait`

func TestASidecarEndsWithTheMainContainers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		policy string
		ended  map[string]int
		args   []string
		ends   bool
	}{
		{"Never", map[string]int{"report": 0, "proxy": 0}, nil, true},
		{"Never", map[string]int{"report": 3, "proxy": 0}, nil, true},
		{"Never", map[string]int{"report": 0}, []string{"-main-containers", "report"}, true},
		{"Never", map[string]int{"report": 0}, []string{"-main-containers", "report, proxy"}, false},
		{"OnFailure", map[string]int{"report": 0, "proxy": 0}, nil, true},
		{"OnFailure", map[string]int{"report": 3, "proxy": 0}, nil, false},
		{"Always", map[string]int{"report": 0, "proxy": 0}, nil, false},
	} {
		t.Run(fmt.Sprintf("%s %v %v", tt.policy, tt.ended, tt.args), func(t *testing.T) {
			t.Parallel()
			k := newKubernetes(t)
			k.pod = pod(tt.policy, nil, nil)
			w := start(t, options{account: k.account, env: k.env(), args: tt.args, config: script("w", polite)})
			w.stdout.waitFor(t, awake)
			w.ready()
			k.change(func() { k.pod = pod(tt.policy, tt.ended, nil) })
			if tt.ends {
				if got := w.wait(); got != 0 {
					t.Errorf("exit code %d", got)
				}
				w.stdout.waitFor(t, seenTERM)
				return
			}
			quietly(t, soon, func() error {
				select {
				case <-w.exited:
					return fmt.Errorf("it has ended")
				default:
					return nil
				}
			})
			if got := w.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
		})
	}
}

func TestASidecarWhosePodIsDoneAlreadyEndsAtOnce(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	k.pod = pod("Never", map[string]int{"report": 0, "proxy": 0}, nil)
	w := start(t, options{account: k.account, env: k.env()}) // also without processes
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestADisruptionIsAPreemption(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	drain, drains := drainer(t)
	w := start(t, options{account: k.account, env: k.env(drain), args: []string{"-envoy-drain"}, config: script("w", polite)})
	w.ready()
	k.change(func() {
		k.pod = pod("Always", nil, []any{object{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}})
	})
	w.stderr.waitFor(t, takenAway)
	if status, body := w.get("/readiness"); status != 503 || !strings.HasPrefix(body, "pod: preempted: Kubernetes takes this pod away: EvictionByEvictionAPI") {
		t.Errorf("%d %s", status, body)
	}
	if got := w.stop(); got != 0 || drains.Load() != 1 {
		t.Errorf("exit code %d, %d drains", got, drains.Load())
	}
	if log := w.stderr.String(); !strings.Contains(log, `reason="SIGTERM; Kubernetes takes this pod away: EvictionByEvictionAPI"`) {
		t.Error("the log does not say why it drains")
	}
}

func TestATokenThatIsRotatedIsReadAgain(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	w := start(t, options{account: k.account, env: k.env(), config: script("w", polite)})
	w.ready()
	k.srv.CloseClientConnections()
	k.rotate("second")
	k.change(func() { k.pod = pod("Never", map[string]int{"report": 0, "proxy": 0}, nil) })
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestAnAPIServerThatRefusesHarmsNothing(t *testing.T) {
	t.Parallel()
	k := newKubernetes(t)
	k.broken = http.StatusForbidden
	w := start(t, options{account: k.account, env: k.env(), config: script("w", polite)})
	w.ready()
	w.stderr.waitFor(t, regexp.MustCompile(`needs a Role`))
	quietly(t, soon, func() error {
		if status, body := w.get("/readiness"); status != 200 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	k.mu.Lock()
	if k.requests > 1 {
		t.Errorf("%d requests", k.requests)
	}
	k.mu.Unlock()
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestTerminationOutsideOfAPodIsAnErrorOfTheConfig(t *testing.T) {
	t.Parallel()
	got := once(t, options{env: []string{"HANDLE_TERMINATION=true", "KUBERNETES_SERVICE_HOST=", "POD_NAME=x"}})
	if got.code != 2 || !strings.Contains(got.stderr, "HANDLE_TERMINATION: watch pod: KUBERNETES_SERVICE_HOST") {
		t.Errorf("%+v", got)
	}
}
