package etcdstore

import (
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

func FuzzKeys(f *testing.F) {
	f.Add("", "a", 0, false)
	f.Add("ns", "a/b#1", 3, true)
	f.Add("", "@ns+/a#1", 0, false)
	f.Fuzz(func(t *testing.T, namespace, key string, slot int, several bool) {
		for _, c := range namespace {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
				return // as pkg/lock lets nothing else through
			}
		}
		if key == "" || slot < 0 || slot >= 1000 {
			return
		}
		slots := 1
		if several {
			slots = 1000
		} else {
			slot = 0
		}
		s := &Store{prefix: "/p/"}
		name := lock.Name{Namespace: namespace, Key: key}
		got, n, ok := s.parseKey(s.etcdKey(name, slot, slots))
		if !ok || got != name || n != slot {
			t.Errorf("%+v %d: %+v %d %v", name, slot, got, n, ok)
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add([]byte(`{"v":1,"ttl":1000}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if v := decode(text); v.Version == version && (v.ttl() <= 0 || v.keep() < v.ttl()) {
			t.Errorf("%+v", v)
		}
	})
}

func TestLeasesOutliveTheirLocks(t *testing.T) {
	for keep := 200 * time.Millisecond; keep < 25*time.Hour; keep += keep/3 + 77*time.Millisecond {
		seconds := lifetime(keep)
		if extra := time.Duration(seconds)*time.Second - keep; extra < minSlack*time.Second || extra > (maxSlack+1)*time.Second {
			t.Errorf("%s: lease of %d s", keep, seconds)
		}
		if left := time.Duration(seconds-slackOf(seconds)) * time.Second; left < keep {
			t.Errorf("%s: %s are left of %d s when the slack is used up", keep, left, seconds)
		}
	}
}

func TestOutdatedVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"3.4.23": true, "3.4.38": false, "3.5.22": true, "3.5.23": false, "3.6.4": true, "3.6.5": false, "3.7.0": false,
		"3.3.0": true, "2.3.8": true, "4.0.0": false, "": false, "3.6.5-rc.0": false,
	} {
		if got := outdated(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

func TestALeaseIsCountedByAClockThatGoesOnInSuspend(t *testing.T) {
	if boottime() == 0 {
		t.Skip("there is no such clock here")
	}
	if d := time.Duration(leaseClock().UnixNano() - boottime()); d > time.Second || d < -time.Second {
		t.Fatalf("the clock of leases is %s off that of suspend", d)
	}
	l := &lease{life: time.Minute, sent: leaseClock().Add(2*time.Second - time.Minute)}
	if !l.lives(time.Second) || l.lives(3*time.Second) {
		t.Errorf("a lease of 2 s: lives 1 s: %t, 3 s: %t", l.lives(time.Second), l.lives(3*time.Second))
	}
}
