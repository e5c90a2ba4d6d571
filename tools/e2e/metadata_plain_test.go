package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/compute/metadata"
)

// Most programs have no client of their own: they call the functions of Google's package, which find the mock by
// GCE_METADATA_HOST.
func TestGooglesPlainCallsFindTheMock(t *testing.T) {
	m := startMock(t)
	t.Setenv("GCE_METADATA_HOST", m.addr)
	if !metadata.OnGCE() {
		t.Error("not on GCE")
	}
	const key = "instance/preempted"
	for name, get := range map[string]func() (string, error){
		"Get":            func() (string, error) { return metadata.Get(key) }, //nolint:staticcheck // deprecated, and what most programs call
		"GetWithContext": func() (string, error) { return metadata.GetWithContext(t.Context(), key) },
		"Get of a new client": func() (string, error) {
			return metadata.NewClient(nil).Get(key) //nolint:staticcheck // as above
		},
	} {
		if got, err := get(); err != nil || got != "FALSE" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	var undefined metadata.NotDefinedError
	if _, err := metadata.Get("instance/nope"); !errors.As(err, &undefined) { //nolint:staticcheck // as above
		t.Errorf("an unknown key: got %v", err)
	}
	m.ctl(t, "fault", "403")
	var refused *metadata.Error
	if _, err := metadata.Get(key); !errors.As(err, &refused) || refused.Code != http.StatusForbidden { //nolint:staticcheck // as above
		t.Errorf("a 403: got %v", err)
	}
	m.ctl(t, "fault", "clear")
	waitByETag(t, m, key)
	subscribePlainly(t, m, key)
}

// waitByETag waits with the ETag that is current, and with one that is not.
func waitByETag(t *testing.T, m *mock, key string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.addr+"/computeMetadata/v1/"+key, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Metadata-Flavor", "Google")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	wait := key + "?wait_for_change=true&timeout_sec=1&last_etag="
	for etag, least := range map[string]time.Duration{resp.Header.Get("Etag"): time.Second, "0": 0} {
		start := time.Now()
		got, err := metadata.GetWithContext(t.Context(), wait+etag)
		if took := time.Since(start); err != nil || got != "FALSE" || took < least || least == 0 && took > time.Second/2 {
			t.Errorf("with the ETag %q: %q, %v after %v", etag, got, err, took)
		}
	}
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := metadata.GetWithContext(t.Context(), key+"?wait_for_change=true&last_etag="+resp.Header.Get("Etag")); err != nil || got != "TRUE" {
			t.Errorf("after a change: %q, %v", got, err)
		}
	})
	m.ctl(t, "wait", "waiting=1")
	m.ctl(t, "preempt")
	wg.Wait()
	within(t, start, patience, "to be told")
}

// subscribePlainly subscribes until the key is deleted.
func subscribePlainly(t *testing.T, m *mock, key string) {
	t.Helper()
	var got []string
	var wg sync.WaitGroup
	wg.Go(func() {
		err := metadata.Subscribe(key, func(v string, ok bool) error { //nolint:staticcheck // as above
			got = append(got, fmt.Sprint(v, " ", ok))
			return nil
		})
		if err != nil {
			t.Errorf("subscribe: %v", err)
		}
	})
	m.ctl(t, "wait", "waiting=1")
	m.ctl(t, "delete", key)
	wg.Wait()
	if want := "[TRUE true  false]"; fmt.Sprint(got) != want {
		t.Errorf("told %v, not %s", got, want)
	}
}
