package wrapper

import (
	"strings"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

func TestTheLockOfAProcess(t *testing.T) {
	cfg, err := spec.Parse("test", []byte(`
- name: web
  entrypoint: /bin/web
  replicas: 2
  readiness: {lock: {}}
- name: job
  entrypoint: /bin/job
  envs: {TEAM: a}
  readiness: {lock: {key: $(TEAM)/$(ZONE)/$(NONE), standbyReady: false}}
- name: free
  entrypoint: /bin/free
`), spec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := builderFor(t)
	b.environ = append(b.environ, "ZONE=z", "SHARED_LOCK_TOKEN=of an outer one")
	want := map[string]string{"web_0": "web_0", "web_1": "web_1", "job": "a/z/$(NONE)", "free": ""}
	for _, p := range cfg.Processes {
		c, s, err := b.process(p)
		if err != nil {
			t.Fatal(err)
		}
		key := want[p.Name]
		if key == "" {
			if c.Guard != nil || s.lock != nil {
				t.Errorf("%s has a lock", p.Name)
			}
			continue
		}
		if c.Guard != s.lock || s.lock.Stats().Key != key || c.StandbyUnready != (p.Name == "job") {
			t.Errorf("%s: %+v, %v", p.Name, s.lock.Stats(), c.StandbyUnready)
		}
		env := strings.Join(spec.AddEnv(b.environ, s.lock.environ()), " ")
		if !strings.Contains(env, "SHARED_LOCK_KEY="+key) || !strings.Contains(env, "SHARED_LOCK_TOKEN=0") || strings.Contains(env, "outer") {
			t.Errorf("%s is told %s", p.Name, env)
		}
	}
	if all := b.locks.stats(); len(all) != 3 {
		t.Errorf("%v", all)
	}
}

// An update keeps the lock that is held; another lock is another way to run it.
func TestAnotherLockRestartsAndAnUpdateKeepsIt(t *testing.T) {
	parse := func(lock, more string) *member {
		t.Helper()
		cfg, err := spec.Parse("test", []byte("- {name: a, entrypoint: /bin/a, readiness: {lock: "+lock+more+"}}"), spec.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := builderFor(t)
		c, s, err := b.process(cfg.Processes[0])
		if err != nil {
			t.Fatal(err)
		}
		return &member{spec: cfg.Processes[0], cfg: c, starter: s}
	}
	old := parse("{}", "")
	if d := compare(old.spec, parse("{key: b}", "").spec); d != another {
		t.Errorf("another key: %d", d)
	}
	if d := compare(old.spec, parse("{ttlDuration: 3s}", "").spec); d != another {
		t.Errorf("another TTL: %d", d)
	}
	m := parse("{}", ", period: 7s")
	if d := compare(old.spec, m.spec); d != around {
		t.Errorf("another period: %d", d)
	}
	m.starter.adopt(old.starter)
	if m.starter.lock != old.starter.lock || m.starter.lock == nil {
		t.Error("the lock is not kept")
	}
}
