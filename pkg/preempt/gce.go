package preempt

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	googleHost      = "metadata.google.internal"
	preemptedPath   = "/computeMetadata/v1/instance/preempted"
	maintenanceName = "maintenance-event"

	pollSeconds = 60               // of a long poll
	pollSlack   = 10 * time.Second // for its answer to come
	readTimeout = 5 * time.Second  // of a read that does not wait
)

// key is a value of GCE's metadata server.
type key struct {
	plain *url.URL      // a read
	wait  *url.URL      // a long poll, nil: it may not wait
	most  time.Duration // how long a long poll is
}

// newKey returns the key of a URL, to which it adds the parameters of a long
// poll that it does not have.
func newKey(u *url.URL) (key, error) {
	q := u.Query()
	seconds := pollSeconds
	if s := q.Get("timeout_sec"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 3600 {
			return key{}, fmt.Errorf("METADATA_URL: timeout_sec=%s is not 1 to 3600 seconds", s)
		}
		seconds = n
	}
	k := key{most: time.Duration(seconds) * time.Second}
	if waits := q.Get("wait_for_change"); waits == "" || truth(waits) {
		q.Set("wait_for_change", "true")
		q.Set("timeout_sec", strconv.Itoa(seconds))
		q.Del("last_etag")
		k.wait = withQuery(u, q)
	}
	q.Del("wait_for_change")
	q.Del("timeout_sec")
	q.Del("last_etag")
	k.plain = withQuery(u, q)
	return k, nil
}

func truth(s string) bool {
	switch strings.ToLower(s) {
	case "true", "on", "yes", "1":
		return true
	}
	return false
}

func withQuery(u *url.URL, q url.Values) *url.URL {
	c := *u
	c.RawQuery = q.Encode()
	return &c
}

// sibling is the URL of another value in the same directory.
func sibling(u *url.URL, name string) *url.URL {
	c := *u
	i := strings.LastIndexByte(c.Path, '/')
	c.Path, c.RawPath = c.Path[:i+1]+name, ""
	return &c
}

// watchGCE watches until the machine is preempted: that is never taken back.
func (w *Watcher) watchGCE(ctx context.Context) {
	k, err := newKey(w.preemptedURL)
	if err != nil {
		return // New has seen it
	}
	ctx, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if strings.HasSuffix(w.preemptedURL.Path, preemptedPath) {
		wg.Go(func() { w.watchMaintenance(ctx) })
	}
	w.follow(ctx, &gce{client: w.newClient(w.tokens.take), key: k, log: w.cfg.Log, value: w.preempted}, true)
	end()
	wg.Wait()
}

const gceReason = "GCE takes this machine away, by default within 30 seconds"

// preempted reads the value of the key of that name.
func (w *Watcher) preempted(v string) error {
	switch strings.ToUpper(v) {
	case "TRUE":
		w.notice(Notice{Active: true, Reason: gceReason})
		return errOver
	case "FALSE":
		return nil
	}
	return garbage("preempted", v)
}

// watchMaintenance hands on what is announced for this machine. It asks with what
// is left over: nobody who asks for preempted has to wait for it.
func (w *Watcher) watchMaintenance(ctx context.Context) {
	k, err := newKey(sibling(w.preemptedURL, maintenanceName))
	if err != nil {
		return // as above
	}
	last := "NONE"
	value := func(v string) error {
		v = strings.ToUpper(v)
		if strings.Trim(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" || v == "" {
			return garbage(maintenanceName, v)
		}
		if v != last && v != "NONE" {
			w.hint(Hint{Kind: "maintenance", Detail: v})
		}
		last = v
		return nil
	}
	w.follow(ctx, &gce{client: w.newClient(w.tokens.spare), key: k, log: slog.New(slog.DiscardHandler), value: value}, false)
}

// gce is a source: one key, read once and then waited on.
type gce struct {
	*client
	key
	log   *slog.Logger
	value func(v string) error

	etag  string // of the value that is known, "": none is
	early int    // answers in a row that came at once and said nothing new
}

func (g *gce) poll(ctx context.Context) (time.Duration, error) {
	r := request{method: http.MethodGet, url: g.plain.String(), header: [2]string{"Metadata-Flavor", "Google"}, timeout: readTimeout}
	known := g.etag
	if known != "" {
		q := g.wait.Query()
		q.Set("last_etag", known)
		r.url, r.timeout = withQuery(g.wait, q).String(), g.most+pollSlack
	}
	g.etag = "" // after a failure the value is read anew
	a, err := g.do(ctx, r)
	if err != nil {
		return 0, err
	}
	if err := g.value(strings.TrimSpace(a.body)); err != nil {
		return 0, err
	}
	if g.wait != nil {
		g.etag = a.etag
		g.waited(known == "" || known != a.etag || a.took >= time.Second)
	}
	return 0, nil // the bucket has the last word
}

// waited says once that the server does not wait, which costs a request each
// second.
func (g *gce) waited(well bool) {
	if well && g.etag != "" {
		g.early = 0
		return
	}
	if g.early++; g.early == 3 {
		g.log.Info("the metadata server does not wait for changes: it is asked every second")
	}
}

func (g *gce) hint(f *fault) string {
	switch {
	case f.code == http.StatusForbidden || f.code == http.StatusNotFound:
		return "Workload Identity of GKE hides this key from pods: use hostNetwork, or a node pool without it; SIGTERM is handled all the same"
	case f.kind == "dns" || f.kind == "unreachable":
		return "is this a machine of GCE? else set -preemption-provider, or unset HANDLE_PREEMPTION"
	}
	return ""
}
