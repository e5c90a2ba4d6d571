package preempt

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// onGoogle runs f in fake time, with a watcher of a server.
func onGoogle(t *testing.T, f func(t *testing.T, n *network, g *googleServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, g := newNetwork(t), newGoogle(t)
		n.hosts[googleAddr] = g
		f(t, n, g)
	})
}

func TestAPreemptionIsSeenWhenItHappens(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		w := watch(n, Config{Provider: GCE})
		defer w.end()
		time.Sleep(150 * time.Second)
		if len(w.told()) > 0 || !w.Stats().Up {
			t.Fatalf("%+v %+v", w.told(), w.Stats())
		}
		if got := n.count(); got > 8 { // a read and three long polls of two keys
			t.Errorf("%d requests", got)
		}
		began := time.Now()
		g.put("instance/preempted", "TRUE")
		synctest.Wait()
		if got := w.told(); len(got) != 1 || !got[0].Active || got[0].Reason != gceReason || !got[0].Deadline.IsZero() {
			t.Fatalf("%+v", got)
		}
		if took := w.at[0].Sub(began); took != 0 {
			t.Errorf("after %v", took)
		}
		<-w.over // it is never taken back, so nobody asks any more
		asked := n.count()
		g.put("instance/preempted", "FALSE")
		n.set("refused")
		time.Sleep(5 * time.Minute)
		if got := w.told(); len(got) != 1 || n.count() != asked || !w.Stats().Notice.Active || !w.Stats().Up {
			t.Errorf("%+v, %d more requests, %+v", got, n.count()-asked, w.Stats())
		}
	})
}

func TestWhereDNSFailsTheServerIsAskedAtItsAddress(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		n.hosts = map[string]server{linkLocalIP + ":80": g} // other names are not known
		w := watch(n, Config{Provider: GCE})
		time.Sleep(150 * time.Second)
		asked := len(g.paths())
		g.put("instance/preempted", "TRUE")
		<-w.over
		if got := w.told(); len(got) != 1 || !got[0].Active || !w.Stats().Up || asked > 8 {
			t.Errorf("%+v after %d requests", got, asked)
		}
		w.end()
	})
}

func TestAnotherNameIsNotAskedAtTheAddress(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		n.hosts = map[string]server{linkLocalIP + ":80": g}
		w := watch(n, Config{URL: "http://mock.example" + preemptedPath})
		time.Sleep(10 * time.Second)
		up := w.Stats().Up
		w.end()
		if up || len(g.paths()) > 0 {
			t.Errorf("%q", g.paths())
		}
	})
}

func TestAPreemptionBeforeTheStartIsSeenByTheFirstRequest(t *testing.T) {
	for _, value := range []string{"TRUE", "true", " True\r\n"} {
		onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
			g.values["instance/preempted"] = value
			began := time.Now()
			w := watch(n, Config{Provider: GCE})
			defer w.end()
			<-w.over
			if got := w.told(); len(got) != 1 || w.at[0].Sub(began) > time.Second {
				t.Errorf("%q: %+v", value, got)
			}
			first := slices.IndexFunc(g.paths(), func(p string) bool { return strings.HasPrefix(p, preemptedPath) })
			if got := g.paths()[first]; got != preemptedPath {
				t.Errorf("the first request waits: %s", got)
			}
		})
	}
}

func TestTheLongPollSaysWhatIsKnown(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		w := watch(n, Config{Provider: GCE})
		time.Sleep(time.Second)
		w.end()
		want := preemptedPath + "?last_etag=" + tag("FALSE") + "&timeout_sec=60&wait_for_change=true"
		if !slices.Contains(g.paths(), want) {
			t.Errorf("%q", g.paths())
		}
	})
}

func TestTheServerMayNotKnowHowToWait(t *testing.T) {
	for name, prepare := range map[string]func(n *network, g *googleServer){
		"it answers at once":           func(n *network, _ *googleServer) { n.set("at once") },
		"it has no ETags":              func(_ *network, g *googleServer) { g.etag = false },
		"it answers at once, no ETags": func(n *network, g *googleServer) { n.set("at once"); g.etag = false },
	} {
		t.Run(name, func(t *testing.T) {
			onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
				prepare(n, g)
				w := watch(n, Config{Provider: GCE})
				time.Sleep(time.Minute)
				if got := n.count(); got > 90 {
					t.Errorf("%d requests in a minute", got)
				}
				if !w.Stats().Up {
					t.Error("it is not up")
				}
				n.set("")
				began := time.Now()
				g.put("instance/preempted", "TRUE")
				<-w.over
				if took := w.at[0].Sub(began); took > time.Second {
					t.Errorf("seen after %v", took)
				}
				w.end()
				if got := w.lines(); len(got) != 2 || !strings.Contains(got[1], "does not wait") {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

func TestAFlipDuringAnOutageOfASecondIsSeenSoonAfterIt(t *testing.T) {
	for _, fault := range []string{"503", "reset", "refused", "truncated"} {
		t.Run(fault, func(t *testing.T) {
			for i := range 100 {
				onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
					w := watch(n, Config{Provider: GCE})
					// Anywhere in the long poll, and exactly at its end.
					time.Sleep(60*time.Second + time.Duration(i-50)*20*time.Millisecond)
					n.set(fault)
					if i%2 == 0 {
						g.put("instance/preempted", "MAYBE") // which ends the long poll: it is garbage
					}
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					g.put("instance/preempted", "TRUE")
					time.Sleep(time.Second - time.Duration(i)*10*time.Millisecond)
					n.set("")
					ended := time.Now()
					<-w.over
					if took := w.at[0].Sub(ended); took > 1500*time.Millisecond {
						t.Errorf("seen %v after the outage", took)
					}
					w.end()
				})
			}
		})
	}
}

func TestMaintenanceIsAHintAndNoNotice(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		w := watch(n, Config{Provider: GCE})
		time.Sleep(time.Minute)
		for _, v := range []string{"MIGRATE_ON_HOST_MAINTENANCE", "NONE", "TERMINATE_ON_HOST_MAINTENANCE"} {
			g.put("instance/maintenance-event", v)
			time.Sleep(time.Minute)
		}
		w.end()
		want := []Hint{{"maintenance", "MIGRATE_ON_HOST_MAINTENANCE"}, {"maintenance", "TERMINATE_ON_HOST_MAINTENANCE"}}
		if !slices.Equal(w.hints, want) || len(w.notices) > 0 {
			t.Errorf("%+v %+v", w.hints, w.notices)
		}
	})
}

func TestPreemptedNeverWaitsForMaintenance(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		g.etag = false // so that both would be asked for again and again
		w := watch(n, Config{Provider: GCE})
		time.Sleep(time.Minute)
		w.end()
		var last time.Time
		for i, path := range g.paths() {
			if !strings.HasPrefix(path, preemptedPath) {
				continue
			}
			if gap := g.times[i].Sub(last); !last.IsZero() && gap > time.Second {
				t.Errorf("%v between two requests", gap)
			}
			last = g.times[i]
		}
		if n.crowded(time.Second) != "" || len(g.times) < 60 {
			t.Errorf("%d requests; %s", len(g.times), n.crowded(time.Second))
		}
	})
}

func TestAServerWithoutMaintenanceIsNoWarning(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		delete(g.values, "instance/maintenance-event")
		w := watch(n, Config{Provider: GCE})
		time.Sleep(10 * time.Minute)
		up := w.Stats().Up
		w.end()
		if got := w.lines(); len(got) != 1 || !up {
			t.Errorf("%v %q", up, got)
		}
	})
}

func TestTheParametersOfTheURLAreKept(t *testing.T) {
	const u = "http://h:1/computeMetadata/v1/instance/preempted"
	for in, want := range map[string][2]string{
		u:                            {u, u + "?timeout_sec=60&wait_for_change=true"},
		u + "?wait_for_change=true":  {u, u + "?timeout_sec=60&wait_for_change=true"},
		u + "?timeout_sec=7&x=y":     {u + "?x=y", u + "?timeout_sec=7&wait_for_change=true&x=y"},
		u + "?last_etag=0":           {u, u + "?timeout_sec=60&wait_for_change=true"},
		u + "?wait_for_change=false": {u, ""},
		"http://h:1/other":           {"http://h:1/other", "http://h:1/other?timeout_sec=60&wait_for_change=true"},
	} {
		p, err := parseHTTP("METADATA_URL", in)
		if err != nil {
			t.Fatal(err)
		}
		k, err := newKey(p)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		wait := ""
		if k.wait != nil {
			wait = k.wait.String()
		}
		if got := [2]string{k.plain.String(), wait}; got != want {
			t.Errorf("%s:\n got %q\nwant %q", in, got, want)
		}
	}
}

func TestAURLThatMayNotWaitIsReadEverySecond(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		w := watch(n, Config{URL: "http://" + googleAddr + preemptedPath + "?wait_for_change=false"})
		time.Sleep(time.Minute)
		if got := n.count(); got < 60 || got > 90 {
			t.Errorf("%d requests", got)
		}
		began := time.Now()
		g.put("instance/preempted", "TRUE")
		<-w.over
		if took := w.at[0].Sub(began); took > time.Second {
			t.Errorf("seen after %v", took)
		}
		w.end()
	})
}

func FuzzNewKey(f *testing.F) {
	f.Add("http://h/computeMetadata/v1/instance/preempted?timeout_sec=60&wait_for_change=true&last_etag=x")
	f.Add("http://h/?timeout_sec=-1")
	f.Add("http://h?a;b")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseHTTP("METADATA_URL", s)
		if err != nil {
			return
		}
		k, err := newKey(u)
		if err != nil {
			return
		}
		if k.plain.Host != u.Host || k.most < time.Second || k.most > time.Hour {
			t.Errorf("%+v", k)
		}
		if q := k.plain.Query(); q.Has("wait_for_change") || q.Has("timeout_sec") || q.Has("last_etag") {
			t.Errorf("a plain read waits: %s", k.plain)
		}
		if k.wait != nil && k.wait.Query().Get("wait_for_change") != "true" {
			t.Errorf("a long poll does not wait: %s", k.wait)
		}
	})
}
