package preempt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// faults are what a metadata server, or the way to it, does at its worst.
var faults = []string{
	"403", "404", "429", "500", "503", "truncated", "garbage", "reset", "refused", "hang", "at once", "flapping",
	// and what else nobody wants to meet
	"400", "401", "405", "410", "302", "redirect", "slowloris", "endless", "binary", "unreachable",
}

func TestNoFaultMakesTheWatcherHammerOrChatter(t *testing.T) {
	for _, p := range []struct {
		provider Provider
		addr     string
		server   func(t *testing.T) server
		every    time.Duration // for a token
	}{
		{GCE, googleAddr, func(t *testing.T) server { return newGoogle(t) }, time.Second},
		{AWS, "169.254.169.254:80", func(t *testing.T) server { return newAmazon(t) }, time.Second / 2},
		{Azure, "169.254.169.254:80", func(t *testing.T) server { return newMicrosoft(t) }, time.Second},
	} {
		for _, fault := range faults {
			t.Run(fmt.Sprintf("%s %s", p.provider, fault), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork(t)
					n.hosts[p.addr] = p.server(t)
					n.set(fault)
					w := watch(n, Config{Provider: p.provider})
					time.Sleep(time.Minute)
					got := n.count()
					up := w.Stats().Up
					w.end()
					if most := 3 + int(time.Minute/p.every); got > most || got < 1 {
						t.Errorf("%d requests in a minute", got)
					}
					if got := n.crowded(p.every); got != "" {
						t.Error(got)
					}
					if lines := w.lines(); len(lines) > 10 || fault != "at once" && len(lines) < 2 {
						t.Errorf("%d lines in a minute:\n%s", len(lines), w.log)
					}
					if up && fault != "at once" && fault != "flapping" {
						t.Error("it counts as up")
					}
					if len(w.notices) > 0 {
						t.Errorf("%+v", w.notices)
					}
				})
			})
		}
	}
}

// stranger says of whatever it is asked that the machine is preempted.
type stranger struct{}

func (stranger) serve(context.Context, *http.Request) response {
	return response{200, map[string]string{"ETag": "0123456789abcdef", "Metadata-Flavor": "Google"}, "TRUE"}
}

func TestARedirectToAnotherHostIsNotFollowed(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, _ *googleServer) {
		n.hosts[elsewhere+":80"] = stranger{}
		n.set("redirect")
		w := watch(n, Config{Provider: GCE})
		time.Sleep(time.Minute)
		w.end()
		if got := n.dialed(googleAddr); got < 2 {
			t.Errorf("%d requests to the server that redirects", got)
		}
		if got := n.dialed(elsewhere + ":80"); got > 0 || len(w.notices) > 0 || w.Stats().Up {
			t.Errorf("%d requests to where it redirects, %+v", got, w.notices)
		}
		// What the stranger says would be believed, if it was asked.
		n.set("")
		w = watch(n, Config{URL: "http://" + elsewhere + preemptedPath})
		<-w.over
		w.end()
		if len(w.notices) != 1 || n.dialed(elsewhere+":80") == 0 {
			t.Errorf("asked for itself: %+v", w.notices)
		}
	})
}

func TestNoProxyIsAsked(t *testing.T) {
	if r, err := http.NewRequest(http.MethodGet, "http://"+googleHost, nil); err != nil {
		t.Fatal(err)
	} else if u, err := http.ProxyFromEnvironment(r); err != nil || u == nil || u.Host != proxyAddr {
		t.Fatalf("the environment has the proxy %v, %v", u, err)
	}
	for _, p := range []Provider{GCE, AWS, Azure, Auto} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.hosts[proxyAddr] = stranger{}
			w := watch(n, Config{Provider: p})
			time.Sleep(time.Minute)
			w.end()
			if got := n.dialed(proxyAddr); got > 0 || n.count() == 0 || len(w.notices) > 0 {
				t.Errorf("%s: %d of %d requests to the proxy, %+v", p, got, n.count(), w.notices)
			}
		})
	}
}

func TestAfterAnyFaultThePreemptionIsSeen(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault, func(t *testing.T) {
			onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
				n.set(fault)
				w := watch(n, Config{Provider: GCE})
				time.Sleep(10 * time.Minute)
				g.put("instance/preempted", "TRUE")
				n.set("")
				began := time.Now()
				<-w.over
				most := lastRetry + time.Second
				switch fault {
				case "400", "401", "403", "404", "405":
					most = recheck + time.Second
				case "hang", "slowloris": // the last request is still on its way
					most += readTimeout
				}
				if took := w.at[0].Sub(began); took > most {
					t.Errorf("seen after %v", took)
				}
				w.end()
				if got := len(w.lines()); got > 40 {
					t.Errorf("%d lines in ten minutes", got)
				}
			})
		})
	}
}

func TestWhatIsHiddenIsSaidOnceWithTheLikelyCause(t *testing.T) {
	for provider, want := range map[Provider]string{GCE: "Workload Identity", AWS: "hop limit of 2"} {
		for _, fault := range []string{"403", "404"} {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.hosts[googleAddr] = newGoogle(t)
				n.hosts["169.254.169.254:80"] = newAmazon(t)
				n.set(fault)
				w := watch(n, Config{Provider: provider})
				time.Sleep(10*time.Minute + time.Second)
				w.end()
				if got := w.lines(); len(got) != 2 || !strings.Contains(got[1], "level=WARN") || !strings.Contains(got[1], want) {
					t.Errorf("%s %s: %q", provider, fault, got)
				}
				if got := n.count(); got < 10 || got > 24 { // GCE asks for two keys
					t.Errorf("%s %s: %d requests in ten minutes", provider, fault, got)
				}
			})
		}
	}
}

func TestTheServerMayAskForPatience(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "3600": maxRetryAfter, "-1": 0, "soon": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"Fri, 02 Jan 2099 03:04:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %v, not %v", in, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts[googleAddr] = patient{}
		w := watch(n, Config{Provider: GCE})
		time.Sleep(59 * time.Second)
		w.end()
		if got := n.count(); got > 2*6 { // every 10 s, two keys
			t.Errorf("%d requests", got)
		}
	})
}

type patient struct{}

func (patient) serve(context.Context, *http.Request) response {
	return response{429, map[string]string{"Retry-After": "10"}, ""}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 02 Jan 2026 03:04:15 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, time.Now()); d < 0 || d > maxRetryAfter {
			t.Errorf("%v", d)
		}
	})
}

func TestPausesGrowWithTheOutage(t *testing.T) {
	for outage, most := range map[time.Duration]time.Duration{
		0: firstRetry, time.Second: time.Second, 10 * time.Second: 10 * time.Second, time.Hour: lastRetry,
	} {
		longest := time.Duration(0)
		for range 1000 {
			longest = max(longest, pause(outage))
		}
		if longest > most || longest < most*9/10 {
			t.Errorf("after %v the longest of many is %v", outage, longest)
		}
	}
}

func TestTheBucketLetsABurstThroughAndThenOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{every: time.Second, burst: 3}
		began := time.Now()
		var got []time.Duration
		for range 6 {
			if err := b.take(t.Context()); err != nil {
				t.Fatal(err)
			}
			got = append(got, time.Since(began))
		}
		time.Sleep(time.Hour) // it does not hold more than the burst
		var wg sync.WaitGroup
		later := time.Now()
		for range 5 {
			wg.Go(func() { _ = b.take(t.Context()) })
		}
		wg.Wait()
		if want := "[0s 0s 0s 1s 2s 3s]"; fmt.Sprint(got) != want || time.Since(later) != 2*time.Second {
			t.Errorf("%v, then five in %v", got, time.Since(later))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errOver)
		if err := b.take(ctx); !errors.Is(err, errOver) {
			t.Error(err)
		}
	})
}

func TestWhatIsSpareLeavesTwoTokensToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{every: time.Second, burst: 3}
		began := time.Now()
		after := func(take func(context.Context) error, want time.Duration) {
			t.Helper()
			if err := take(t.Context()); err != nil || time.Since(began) != want {
				t.Errorf("after %v, not %v, %v", time.Since(began), want, err)
			}
		}
		after(b.spare, 0)
		after(b.take, 0)
		after(b.take, 0)
		after(b.spare, 3*time.Second) // it is full again
		after(b.spare, 4*time.Second)
		ctx, cancel := context.WithTimeoutCause(t.Context(), 90*time.Second, errOver)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 90 { // who takes all, leaves nothing, and never waits for who takes what is spare
				_ = b.take(t.Context())
				time.Sleep(time.Second)
			}
		})
		if err := b.spare(ctx); !errors.Is(err, errOver) {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestAnotherPaceKeepsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{every: time.Second, burst: 3}
		for range 3 {
			_ = b.take(t.Context())
		}
		b.pace(time.Second / 2)
		began := time.Now()
		for range 4 {
			_ = b.take(t.Context())
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("four tokens at two a second took %v", took)
		}
		b = &bucket{every: time.Second, burst: 3} // full
		b.pace(time.Second / 2)
		began = time.Now()
		for range 4 {
			_ = b.take(t.Context())
		}
		if took := time.Since(began); took != time.Second/2 {
			t.Errorf("a burst and one more took %v", took)
		}
	})
}

// Also from one phase to the next: who asks whose machine it is, and then watches, takes from one bucket.
func TestWhoFindsOutAsksNoMoreForIt(t *testing.T) {
	for _, cloud := range []struct {
		provider Provider
		addr     string
		server   func(t *testing.T) server
		every    time.Duration
	}{
		{GCE, googleAddr, func(t *testing.T) server { return newGoogle(t) }, time.Second},
		{AWS, linkLocalIP + ":80", func(t *testing.T) server { return newAmazon(t) }, awsEvery},
		{Azure, linkLocalIP + ":80", func(t *testing.T) server { return newMicrosoft(t) }, time.Second},
	} {
		t.Run(string(cloud.provider), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.hosts[cloud.addr] = cloud.server(t)
				w := watch(n, Config{})
				time.Sleep(time.Minute)
				w.end()
				if got, s := n.crowded(cloud.every), w.Stats(); got != "" || !s.Up || s.Provider != cloud.provider {
					t.Errorf("%s; %+v", got, s)
				}
			})
		})
	}
}

func TestTheEndOfTheWatchIsNoFault(t *testing.T) {
	for _, fault := range []string{"", "hang", "503", "unreachable"} {
		onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
			n.set(fault)
			w := watch(n, Config{Provider: GCE})
			time.Sleep(time.Second)
			before := w.Stats().Requests
			w.end()
			if got := w.Stats().Requests; fmt.Sprint(got) != fmt.Sprint(before) || strings.Contains(w.log.String(), "canceled") {
				t.Errorf("%s: %v, then %v, %s", fault, before, got, w.log)
			}
		})
	}
}

func TestRequestsAreCountedByWhatCame(t *testing.T) {
	for fault, want := range map[string]string{
		"503": "503", "reset": "reset", "refused": "refused", "truncated": "truncated", "hang": "timeout", "slowloris": "timeout",
		"endless": "too_long", "garbage": "200", "at once": "200", "unreachable": "timeout", "binary": "error",
	} {
		onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
			n.set(fault)
			w := watch(n, Config{Provider: GCE})
			time.Sleep(10 * time.Second)
			w.end()
			got := w.Stats().Requests
			if got[want] == 0 || len(got) != 1 {
				t.Errorf("%s: %v", fault, got)
			}
		})
	}
}

func TestNoErrorShowsSecretsOrFloodsTheLog(t *testing.T) {
	onGoogle(t, func(t *testing.T, n *network, g *googleServer) {
		n.hosts["secret.example:80"] = g
		n.set("garbage")
		w := watch(n, Config{URL: "http://user:hunter2@secret.example" + preemptedPath})
		time.Sleep(time.Minute)
		n.set("500")
		time.Sleep(time.Minute)
		n.set("refused")
		time.Sleep(time.Minute)
		w.end()
		if strings.Contains(w.log.String(), "hunter2") {
			t.Error(w.log)
		}
		for _, l := range w.lines() {
			if len(l) > 600 {
				t.Errorf("%d bytes: %s", len(l), l)
			}
		}
	})
}
