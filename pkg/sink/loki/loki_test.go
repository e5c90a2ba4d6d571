package loki

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

// start runs a sink until the test ends, or stop is called.
func start(t *testing.T, c Config) (s *sink.Sink, stop func() error) {
	t.Helper()
	c.Sink = sinktest.Hurry(c.Sink)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, sinktest.Run(t, s)
}

func TestFewLabelsMakeTheStreamAndTheLineHasAll(t *testing.T) {
	at := time.Now().Add(-30 * time.Minute)
	for _, tt := range []struct {
		name   string
		labels []string
		m      datagram.Message
		want   string
	}{
		{"the default ones", nil, datagram.Message{Labels: []datagram.Label{{Name: "event_type", Value: "a"}, {Name: "namespace", Value: "b"}, {Name: "pod", Value: "c"}}},
			`{event_type="a", namespace="b"}`},
		{"those that are asked for", []string{"pod", "node"}, datagram.Message{Labels: []datagram.Label{{Name: "event_type", Value: "a"}, {Name: "pod", Value: "c"}}},
			`{pod="c"}`},
		{"none", nil, datagram.Message{Labels: []datagram.Label{{Name: "pod", Value: "c"}}}, `{job="metrics-server"}`},
		{"an empty one is none", nil, datagram.Message{Labels: []datagram.Label{{Name: "event_type"}}}, `{job="metrics-server"}`},
		{"quotes inject no label", nil, datagram.Message{Labels: []datagram.Label{{Name: "event_type", Value: "a\",x=\"\\\n}"}}},
			`{event_type="a\",x=\"\\\n}"}`},
		{"a tenant in a label is just a label", nil, datagram.Message{Labels: []datagram.Label{{Name: "__tenant_id__", Value: "a"}}}, `{job="metrics-server"}`},
		{"a long value is cut, at a character", []string{"x"}, datagram.Message{Labels: []datagram.Label{{Name: "x", Value: strings.Repeat("a", 2047) + "üü"}}},
			`{x="` + strings.Repeat("a", 2047) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			s, stop := start(t, Config{Address: sinktest.Serve(t, f), Labels: tt.labels})
			tt.m.Op, tt.m.Name, tt.m.Time = datagram.Event, "ev", at
			sinktest.Put(t, s, &tt.m)
			sinktest.Eventually(t, "stored", func() bool { return f.count() == 1 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			streams, events := f.stored()
			if streams[0] != tt.want {
				t.Errorf("stream %s, want %s", streams[0], tt.want)
			}
			want := map[string]any{}
			for _, l := range tt.m.Labels {
				want[l.Name] = l.Value
			}
			if !reflect.DeepEqual(events[0]["labels"], want) || events[0]["timestamp"] != at.UTC().Format(time.RFC3339Nano) {
				t.Errorf("event %v", events[0])
			}
			for key := range f.lines {
				if !strings.Contains(key, fmt.Sprint(at.UnixNano())) {
					t.Errorf("time of %s, want %d", key, at.UnixNano())
				}
			}
		})
	}
}

func TestStatusDecides(t *testing.T) {
	for _, tt := range []struct {
		status int
		dead   bool
	}{
		{429, false}, {500, false}, {502, false}, {503, false}, {408, false}, {302, false},
		{401, true}, {403, true}, {404, true}, {400, true}, {413, true},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			dir := t.TempDir()
			f := newFake(t)
			f.status = func(n int) int {
				if n < 3 || tt.dead {
					return tt.status
				}
				return 0
			}
			s, stop := start(t, Config{Address: sinktest.Serve(t, f), Sink: sink.Config{SpoolDir: dir, BatchCount: 4, Period: time.Hour}})
			for i := range 4 {
				sinktest.Put(t, s, sinktest.Event("x", i))
			}
			sinktest.Eventually(t, "dealt with", func() bool { return sinktest.Settled(s) })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if tt.dead && (st.DeadLetter != 4 || st.Retried != 0) || !tt.dead && (f.count() != 4 || st.Retried < 4) {
				t.Errorf("stats %+v", st)
			}
			raw, _ := os.ReadFile(filepath.Join(dir, "loki", "dead-letter.ndjson"))
			if tt.dead != bytes.Contains(raw, []byte(fmt.Sprintf("(%d): as told", tt.status))) {
				t.Errorf("dead letters %s", raw)
			}
		})
	}
}

func TestOldEventIsADeadLetterAndTheOthersArrive(t *testing.T) {
	f := newFake(t)
	s, stop := start(t, Config{Address: sinktest.Serve(t, f), Sink: sink.Config{SpoolDir: t.TempDir(), BatchCount: 100, Period: time.Hour}})
	for i := range 100 {
		m := sinktest.Event("x", i)
		switch i {
		case 17:
			m.Time = m.Time.Add(-8 * 24 * time.Hour)
		case 44:
			m.Time = m.Time.Add(2 * time.Hour)
		case 99:
			m.Time = m.Time.Add(-90 * time.Minute)
		}
		sinktest.Put(t, s, m)
	}
	sinktest.Eventually(t, "dealt with", func() bool { return sinktest.Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); f.count() != 97 || st.Sent != 97 || st.DeadLetter != 3 {
		t.Errorf("stored %d, %+v", f.count(), st)
	}
}

func TestFaultsLoseNothing(t *testing.T) {
	f := newFake(t)
	p := sinktest.NewProxy(f, 40, sinktest.Empty200, sinktest.CutAnswer) // a 2xx is all that the client looks at
	const n = 5000
	s, stop := start(t, Config{Address: sinktest.Serve(t, p), Timeout: 300 * time.Millisecond, Sink: sink.Config{SpoolDir: t.TempDir(), BatchCount: 100, MaxBatchBytes: 20_000}})
	for i := range n {
		sinktest.Put(t, s, sinktest.Event("x", i))
	}
	sinktest.Eventually(t, "some faults", func() bool { return p.Spoilt.Load() >= 20 || sinktest.Settled(s) })
	p.Heal()
	sinktest.Eventually(t, "all stored", func() bool { return sinktest.Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if f.count() != n || s.Stats().Sent != n || p.Spoilt.Load() == 0 {
		t.Errorf("stored %d of %d, %d requests spoilt, %+v", f.count(), n, p.Spoilt.Load(), s.Stats())
	}
}

func TestEndIsWithinTheDeadlineWhenTheStoreHangs(t *testing.T) {
	release := make(chan struct{})
	url := sinktest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer close(release)
	s, stop := start(t, Config{Address: url, Sink: sink.Config{SpoolDir: t.TempDir(), Deadline: 2 * time.Second}})
	sinktest.Put(t, s, sinktest.Event("x", 0))
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s, deadline is 2 s", took)
	}
	if st := s.Stats(); st.SpoolBytes == 0 || st.Sent != 0 {
		t.Errorf("stats %+v: want it in the spool", st)
	}
}

func TestTwoSinksToOneHostAreRefused(t *testing.T) {
	f := newFake(t)
	url := sinktest.Serve(t, f)
	start(t, Config{Address: url})
	sinktest.Eventually(t, "the first is open", func() bool {
		_, open := hosts.Load(strings.TrimPrefix(url, "http://"))
		return open
	})
	second, err := New(Config{Address: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "this process pushes there already") {
		t.Errorf("second: %v", err)
	}
}

func TestBadConfigs(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   string
	}{
		{Config{}, `loki address "": want http://HOST:PORT or https://HOST:PORT`},
		{Config{Address: "loki:3100"}, `loki address "loki:3100": want http://HOST:PORT or https://HOST:PORT`},
		{Config{Address: "http://u:s3cret@loki"}, `loki address "http://u:xxxxx@loki": give credentials by environment or file, not here`},
		{Config{Address: "http://u:s3cret@\x7f"}, `loki address: not a URL`},
		{Config{Address: "http://x", Labels: []string{"a.b"}}, `loki label "a.b": want letters, digits and _, and no __ in front`},
		{Config{Address: "http://x", Labels: []string{"__tenant_id__"}}, `loki label "__tenant_id__": want letters, digits and _, and no __ in front`},
		{Config{Address: "http://x", Labels: []string{"a", "a"}}, `loki label "a": given twice`},
		{Config{Address: "http://x", Labels: strings.Split("abcdefghijklmnop", "")}, `loki labels: 16 of them, Loki takes 15`},
		{Config{Address: "http://x", User: "u", BearerToken: "t"}, `loki: want either user and password or a bearer token`},
		{Config{Address: "http://x", User: "u", Password: "p", PasswordFile: "f"}, `loki: want either a password or a password file`},
		{Config{Address: "http://x", BearerToken: "u", BearerTokenFile: "f"}, `loki: want either a bearer token or a bearer token file`},
		{Config{Address: "http://x", Password: "u"}, `loki: password without a user`},
		{Config{Address: "http://x", CertFile: "u"}, `loki: a client certificate needs both its certificate and its key file`},
		{Config{Address: "http://x", Timeout: -1}, `loki timeout -1ns: must not be negative`},
	} {
		_, err := New(tt.config)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v\nwant %s", tt.config, err, tt.want)
		}
	}
}

// The key of a record comes back as the labels that it was made of.
func FuzzKey(f *testing.F) {
	f.Add("a", "b", "{a=\"b\"}")
	f.Add("\"", "\\\xff\n,x=", "{a=\"b\",a")
	f.Fuzz(func(t *testing.T, one, two, key string) {
		if set, err := parseLabels(key); err == nil && len(set) == 0 {
			t.Fatalf("%q has no labels", key)
		}
		b := &backend{config: Config{Labels: []string{"one", "two"}}}
		var r sink.Record
		m := datagram.Message{Op: datagram.Event, Labels: []datagram.Label{{Name: "one", Value: one}, {Name: "two", Value: two}}}
		if err := b.Encode(&m, &r); err != nil {
			t.Fatal(err)
		}
		got, err := parseLabels(string(r.Key))
		if err != nil {
			t.Fatalf("%s: %v", r.Key, err)
		}
		for name, value := range map[model.LabelName]string{"one": one, "two": two} {
			want := strings.ToValidUTF8(value[:min(len(value), maxLabelValue)], "")
			if string(got[name]) != want {
				t.Fatalf("%s is %q, want %q", name, got[name], want)
			}
		}
	})
}
