package search

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

func TestDocumentsGoToTheirIndices(t *testing.T) {
	day := time.Date(2026, 3, 4, 23, 30, 0, 123456789, time.FixedZone("", -3600)) // the 5th in UTC
	for _, tt := range []struct {
		name   string
		config Config
		m      datagram.Message
		want   string
	}{
		{"an event to the default index, by its own day in UTC", Config{}, datagram.Message{Op: datagram.Event, Name: "e", ID: "1", Time: day}, "metric-events-2026-03-05/1"},
		{"an event has no say in its index", Config{}, datagram.Message{Op: datagram.Event, Name: "e", ID: "1", Time: day, Index: "other"}, "metric-events-2026-03-05/1"},
		{"op index to its index", Config{}, datagram.Message{Op: datagram.Index, Name: "e", ID: "1", Time: day, Index: "app.x_1"}, "app.x_1-2026-03-05/1"},
		{"op index without an index to the default", Config{Index: "mine"}, datagram.Message{Op: datagram.Index, Name: "e", ID: "1", Time: day}, "mine-2026-03-05/1"},
		{"a data stream has no day", Config{DataStream: true}, datagram.Message{Op: datagram.Event, Name: "e", ID: "1", Time: day}, "metric-events/1"},
		{"an id that is too long is hashed", Config{DataStream: true}, datagram.Message{Op: datagram.Event, Name: "e", ID: strings.Repeat("x", 513), Time: day},
			"metric-events/3a6bd87dc8b2d15bc9b7f5e1e9e9d3b2"},
		{"quotes and newlines in an id inject nothing", Config{DataStream: true}, datagram.Message{Op: datagram.Event, Name: "e", ID: "\"}}\n{\"delete\":{}}", Time: day},
			"metric-events/\"}}\n{\"delete\":{}}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			tt.config.URL = sinktest.Serve(t, f)
			s, stop := start(t, tt.config)
			sinktest.Put(t, s, &tt.m)
			sinktest.Eventually(t, "stored", func() bool { return f.count() == 1 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			for key, doc := range f.docs {
				if len(tt.m.ID) > maxID {
					if _, id, _ := strings.Cut(key, "/"); len(id) != 64 {
						t.Errorf("id %s", id)
					}
				} else if key != tt.want {
					t.Errorf("stored as %s, want %s", key, tt.want)
				}
				if doc["timestamp"] != "2026-03-05T00:30:00.123456789Z" || tt.config.DataStream && doc["@timestamp"] != doc["timestamp"] {
					t.Errorf("document %v", doc)
				}
			}
		})
	}
}

func TestIndexIsConfined(t *testing.T) {
	s, err := New(Config{URL: "http://x", Index: "app-default", Pattern: "app-*"})
	if err != nil {
		t.Fatal(err)
	}
	for index, ok := range map[string]bool{
		"app-1": true, "app-": true, "other": false, "app": false, "App-1": false, ".app-1": false, "_all": false, "-app-1": false,
		"app-1/../../_cluster": false, "app-*": false, "app-\"}}\n": false, "app-ü": false, "app-1,b": false, "app-" + strings.Repeat("x", 200): false,
	} {
		err := s.Put(&datagram.Message{Op: datagram.Index, Name: "x", Index: index})
		if ok != (err == nil) || err != nil && !errors.Is(err, sink.ErrRefused) {
			t.Errorf("index %q: %v, want allowed %v", index, err, ok)
		}
	}
}

// troubled answers by id, some only for a while.
func (f *fake) troubled(_, id string, _ map[string]any) (status int, kind, reason string) {
	again := f.tries["d/"+id] < 4
	switch {
	case id == "busy" && again:
		return 429, "es_rejected_execution_exception", "queue is full"
	case id == "gone" && again:
		return 503, "unavailable_shards_exception", "no primary"
	case id == "disk" && again:
		return 403, "cluster_block_exception", "index [d] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)]"
	case id == "mapping":
		return 400, "mapper_parsing_exception", "failed to parse field [labels.a]"
	}
	return 201, "", ""
}

func TestEachItemIsHandledByItsStatus(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t)
	f.item = f.troubled
	s, stop := start(t, Config{URL: sinktest.Serve(t, f), Index: "d", DataStream: true, Sink: sink.Config{SpoolDir: dir}})
	for _, id := range []string{"good", "busy", "mapping", "gone", "disk", "good"} {
		sinktest.Put(t, s, &datagram.Message{Op: datagram.Event, Name: "e", ID: id})
	}
	sinktest.Eventually(t, "all dealt with", func() bool { return sinktest.Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(f.docs) != 4 || f.docs["d/mapping"] != nil {
		t.Errorf("stored %v", f.docs)
	}
	st := s.Stats()
	if st.Sent != 5 || st.DeadLetter != 1 || f.tries["d/good"] > 2 || f.tries["d/busy"] != 4 {
		t.Errorf("stats %+v, tries %v", st, f.tries)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "search", "dead-letter.ndjson"))
	if err != nil || !bytes.Contains(raw, []byte(`"reason":"status 400: mapper_parsing_exception: failed to parse field [labels.a]","key":"d","id":"mapping","event":{"name":"e"`)) {
		t.Errorf("%s %v", raw, err)
	}
}

func TestAnswerThatIsNotWholeIsNoAcknowledgement(t *testing.T) {
	for name, spoiled := range map[string]func(answer string) (int, http.Header, string){
		"an empty 200":    func(string) (int, http.Header, string) { return 200, nil, "" },
		"an empty object": func(string) (int, http.Header, string) { return 200, nil, "{}" },
		"no items":        func(string) (int, http.Header, string) { return 200, nil, `{"errors":false,"items":[]}` },
		"a null":          func(string) (int, http.Header, string) { return 200, nil, `null` },
		"fewer items":     func(a string) (int, http.Header, string) { return 200, nil, a[:strings.LastIndex(a, ",{")] + "]}" },
		"more items": func(a string) (int, http.Header, string) {
			return 200, nil, strings.Replace(a, "[", `[{"create":{"status":201}},`, 1)
		},
		"items without status":     func(a string) (int, http.Header, string) { return 200, nil, strings.ReplaceAll(a, "status", "state") },
		"items of other actions":   func(a string) (int, http.Header, string) { return 200, nil, strings.ReplaceAll(a, "create", "index") },
		"null items":               func(string) (int, http.Header, string) { return 200, nil, `{"items":[null,null,null]}` },
		"half an answer":           func(a string) (int, http.Header, string) { return 200, nil, a[:len(a)/2] },
		"rubbish behind it":        func(a string) (int, http.Header, string) { return 200, nil, a + "x" },
		"a page of a proxy":        func(string) (int, http.Header, string) { return 200, nil, "<html>" },
		"a gigantic answer":        func(a string) (int, http.Header, string) { return 200, nil, a + strings.Repeat(" ", 1<<20) },
		"an answer of another 2xx": func(a string) (int, http.Header, string) { return 202, nil, a },
		"a redirect": func(string) (int, http.Header, string) {
			return 302, http.Header{"Location": {"/_index_template/x"}}, ""
		},
		"429": func(string) (int, http.Header, string) { return 429, http.Header{"Retry-After": {"1"}}, "" },
		"408": func(string) (int, http.Header, string) { return 408, nil, "" },
		"500": func(string) (int, http.Header, string) { return 500, nil, "" },
		"503": func(string) (int, http.Header, string) {
			return 503, http.Header{"Retry-After": {"Fri, 31 Dec 1999"}}, ""
		},
		"nothing": func(string) (int, http.Header, string) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.spoil = func(n int, answer string) (int, http.Header, string) {
				if n < 2 {
					return spoiled(answer)
				}
				return 200, nil, answer
			}
			f.item = func(_, id string, _ map[string]any) (int, string, string) {
				if f.requests < 2 {
					return 400, "nothing_is_stored", "yet" // so only a sink that sends again gets them stored
				}
				return 201, "", ""
			}
			if name == "nothing" {
				inner := f.spoil
				f.spoil = func(n int, a string) (int, http.Header, string) { return inner(n, a) }
			}
			s, stop := start(t, Config{URL: sinktest.Serve(t, f), Sink: sink.Config{BatchCount: 3}})
			for i := range 3 {
				sinktest.Put(t, s, sinktest.Event("x", i))
			}
			sinktest.Eventually(t, "stored", func() bool { return f.count() == 3 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Sent != 3 || st.Retried < 3 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestWholeRequestThatIsRefused(t *testing.T) {
	for _, tt := range []struct {
		status   int
		requests int // for 8 events
		dead     int // if it is refused when event 5 is in it
	}{
		{400, 7, 1}, {413, 7, 1}, {401, 1, 8}, {403, 1, 8}, {404, 1, 8},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			f := newFake(t)
			bad := false
			f.item = func(_, id string, _ map[string]any) (int, string, string) {
				bad = bad || id == "x-5"
				return 201, "", ""
			}
			f.spoil = func(_ int, answer string) (int, http.Header, string) {
				defer func() { bad = false }()
				if bad {
					return tt.status, nil, "no"
				}
				return 200, nil, answer
			}
			s, stop := start(t, Config{URL: sinktest.Serve(t, f), Sink: sink.Config{SpoolDir: t.TempDir(), BatchCount: 8, Period: time.Hour}})
			for i := range 8 {
				sinktest.Put(t, s, sinktest.Event("x", i))
			}
			sinktest.Eventually(t, "all dealt with", func() bool { return sinktest.Settled(s) })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); int(st.DeadLetter) != tt.dead || f.requests != tt.requests {
				t.Errorf("%d dead letters in %d requests, want %d in %d", st.DeadLetter, f.requests, tt.dead, tt.requests)
			}
		})
	}
}

func TestTemplateIsInstalledOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		put    int // its status
		want   string
	}{
		{"by default", Config{}, 0,
			`/_index_template/metrics-server-metric-events {"index_patterns":["metric-events-*"],"priority":150,"template":{"mappings":{"dynamic_templates":[{"labels":{"mapping":{"ignore_above":1024,"type":"keyword"},"path_match":"labels.*"}}],"properties":{"help":{"type":"text"},"id":{"ignore_above":1024,"type":"keyword"},"index":{"ignore_above":1024,"type":"keyword"},"name":{"ignore_above":1024,"type":"keyword"},"op":{"ignore_above":1024,"type":"keyword"},"timestamp":{"type":"date"},"value":{"type":"double"}}},"settings":{"number_of_shards":1}}}`},
		{"for data streams with flattened labels", Config{DataStream: true, Labels: LabelsFlattened, Shards: 3}, 0,
			`/_index_template/metrics-server-metric-events {"data_stream":{},"index_patterns":["metric-events"],"priority":150,"template":{"mappings":{"properties":{"@timestamp":{"type":"date"},"help":{"type":"text"},"id":{"ignore_above":1024,"type":"keyword"},"index":{"ignore_above":1024,"type":"keyword"},"labels":{"type":"flattened"},"name":{"ignore_above":1024,"type":"keyword"},"op":{"ignore_above":1024,"type":"keyword"},"timestamp":{"type":"date"},"value":{"type":"double"}}},"settings":{"number_of_shards":3}}}`},
		{"not by a store that does not want it", Config{}, 400, ""},
		{"unless told not to", Config{NoTemplate: true}, 0, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.template = tt.put
			tt.config.URL = sinktest.Serve(t, f)
			s, stop := start(t, tt.config)
			for i := range 3 {
				sinktest.Put(t, s, sinktest.Event("x", i))
				sinktest.Eventually(t, "stored", func() bool { return f.count() == i+1 })
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "none":
				if len(f.templates) != 0 {
					t.Errorf("got %q", f.templates)
				}
			case len(f.templates) != 2 || !strings.HasPrefix(f.templates[0], "GET ") || tt.want != "" && f.templates[1] != "PUT "+tt.want:
				t.Errorf("got  %q\nwant %s", f.templates, tt.want)
			}
		})
	}
}

func TestFaultsLoseNothingAndStoreOnce(t *testing.T) {
	f := newFake(t)
	p := sinktest.NewProxy(f, 40)
	const n = 5000
	s, stop := start(t, Config{URL: sinktest.Serve(t, p), Timeout: 300 * time.Millisecond, Sink: sink.Config{SpoolDir: t.TempDir(), BatchCount: 100, MaxBatchBytes: 20_000}})
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

func TestEventWithoutIDIsStoredOnceThoughTheAnswerWasLost(t *testing.T) {
	f := newFake(t)
	f.spoil = func(n int, answer string) (int, http.Header, string) {
		if n < 3 {
			panic(http.ErrAbortHandler)
		}
		return 200, nil, answer
	}
	s, stop := start(t, Config{URL: sinktest.Serve(t, f)})
	for range 2 { // equal ones are two
		sinktest.Put(t, s, &datagram.Message{Op: datagram.Event, Name: "e"})
	}
	sinktest.Eventually(t, "sent", func() bool { return s.Stats().Sent == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if f.count() != 2 {
		t.Errorf("stored %d, want 2", f.count())
	}
}

func TestCredentialsAndCertificates(t *testing.T) {
	f := newFake(t)
	url, ca := sinktest.ServeTLS(t, f, nil)
	withUser := strings.Replace(url, "https://", "https://alice:s3cret@", 1)
	for _, tt := range []struct {
		name   string
		config Config
		auth   string // "" when nothing may arrive
	}{
		{"user and password", Config{URL: url, CAFile: ca, User: "bob", Password: "pw"}, "bob:pw"},
		{"user and password in the URL", Config{URL: withUser, CAFile: ca}, "alice:s3cret"},
		{"unknown certificate, not verified", Config{URL: withUser, Insecure: true}, "alice:s3cret"},
		{"unknown certificate", Config{URL: withUser}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.mu.Lock()
			f.auth = nil
			f.mu.Unlock()
			var log bytes.Buffer
			tt.config.Sink = sink.Config{Log: slog.New(slog.NewTextHandler(&log, nil)), SpoolDir: t.TempDir()}
			s, stop := start(t, tt.config)
			sinktest.Put(t, s, &datagram.Message{Op: datagram.Event, Name: "e"})
			sinktest.Eventually(t, "a try", func() bool { return s.Stats().Flush.Count > 0 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(f.auth, " "); strings.Trim(strings.ReplaceAll(got, tt.auth, ""), " ") != "" || tt.auth != "" && got == "" || tt.auth == "" && got != "" {
				t.Errorf("credentials %q, want %q", got, tt.auth)
			}
			if strings.Contains(log.String(), "s3cret") {
				t.Errorf("log has the password: %s", log.String())
			}
		})
	}
}

func TestBadConfigs(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   string
	}{
		{Config{}, `search URL "": want http://HOST:PORT or https://HOST:PORT`},
		{Config{URL: "host:9200"}, `search URL "host:9200": want http://HOST:PORT or https://HOST:PORT`},
		{Config{URL: "http://u:s3cret@\x7f"}, `search URL: not a URL`},
		{Config{URL: "http://x", Index: "Events"}, `search index "Events": want small letters, digits, '-', '_' and '.'`},
		{Config{URL: "http://x", Pattern: "app-*"}, `search index "metric-events": does not match the pattern "app-*"`},
		{Config{URL: "http://x", Pattern: "["}, `search index pattern "[": syntax error in pattern`},
		{Config{URL: "http://x", Labels: "text"}, `search labels "text": want keyword, flattened or flat_object`},
		{Config{URL: "http://x", Shards: -1}, `search shards -1: must not be negative`},
		{Config{URL: "http://x", Timeout: -1}, `search timeout -1ns: must not be negative`},
		{Config{URL: "http://x", Sink: sink.Config{Fsync: "often"}}, `sink search: fsync "often": want always, interval or never`},
		{Config{URL: "http://x", Sink: sink.Config{Name: "../x"}}, `sink name "../x": want a plain word`},
	} {
		_, err := New(tt.config)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: %v\nwant %s", tt.config, err, tt.want)
		}
	}
}
