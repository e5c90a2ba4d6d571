package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse returns flags as the command line gives them, with ports that are free.
func parse(t *testing.T, args ...string) *flags {
	t.Helper()
	var f flags
	p := program(&f, &environment{})
	p.Run = func(context.Context, *cli.Call) error { return nil }
	var stderr bytes.Buffer
	args = append([]string{"-udp", "127.0.0.1:0", "-socket", "127.0.0.1:0", "-uds="}, args...)
	if code := p.Exec(t.Context(), args, &bytes.Buffer{}, &stderr); code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, &stderr)
	}
	return &f
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"-uds-mode=999":                       "-uds-mode \"999\" is no mode: write it as 0660",
		"-uds-mode=1777":                      "-uds-mode",
		"-udp=":                               "nothing to listen on",
		"-uds=a.sock -uds-pool=b.sock,a.sock": "a.sock is to be listened on twice",
		"-allow-cidr=10.0.0.0/99":             "-allow-cidr \"10.0.0.0/99\" is no network",
		"-allow-cidr=here":                    "-allow-cidr",
		"-extra-labels=a":                     "-extra-labels: \"a\" is no label: write name:value",
		"-extra-labels=__name__:x":            "keeps for itself",
		"-extra-labels=le:x":                  "keeps for itself",
		"-extra-labels-file-path=/none":       "-extra-labels-file-path",
		"-max-series=0":                       "-max-series is 0, and must be at least 1",
		"-max-series-per-name=-1":             "-max-series-per-name",
		"-max-series-bytes=-1":                "-max-series-bytes",
		"-receive-buffer=1":                   "-receive-buffer",
		"-readers=0":                          "-readers",
		"-queue-bytes=1":                      "-queue-bytes",
		"-max-connections=0":                  "-max-connections",
		"-max-message=5":                      "-max-message",
		"-metric-ttl=-1s":                     "-metric-ttl",
		"-idle-timeout=0s":                    "-idle-timeout",
		"-shutdown-delay=-1s":                 "-shutdown-delay",
		"-shutdown-deadline=-1s":              "-shutdown-deadline",
		"-rate-limit=-1":                      "-rate-limit is -1, and must not be negative",
		"-rate-limit=NaN":                     "-rate-limit",
		"-remote=host":                        "-remote",
		"-pyroscope-url=host:4040":            "-pyroscope-url is no URL: write http://host:4040",
		"-loki-address=loki:3100":             "loki address",
		"-spool-fsync=sometimes":              "-spool-fsync is \"sometimes\"",
		"-sink-queue-bytes=0":                 "-sink-queue-bytes",
		"-spool-bytes=0":                      "-spool-bytes",
		"-opensearch-bulk-period=0s":          "-opensearch-bulk-period",
		"-opensearch-bulk-size-bytes=0":       "-opensearch-bulk-size-bytes",
	} {
		_, err := newServer(parse(t, strings.Fields(args)...), &environment{}, slog.New(slog.DiscardHandler), func() {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestASearchURLThatIsNoneIsRefused(t *testing.T) {
	_, err := newServer(parse(t), &environment{searchURL: "localhost:9200"}, slog.New(slog.DiscardHandler), func() {})
	if err == nil || !strings.Contains(err.Error(), "localhost:9200") {
		t.Error(err)
	}
}

func TestExtraLabels(t *testing.T) {
	file := filepath.Join("testdata", "labels")
	got, err := parse(t, "-extra-labels", "zone:eu, url:http://x:1,,k8s.io/app:a", "-extra-labels-file-path", file).labels()
	if err != nil {
		t.Fatal(err)
	}
	want := []datagram.Label{{Name: "zone", Value: "eu"}, {Name: "url", Value: "http://x:1"}, {Name: "k8s_io_app", Value: "a"},
		{Name: "app_kubernetes_io_name", Value: `web "x"`}, {Name: "pod_template_hash", Value: "1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheRouterAddsInstance(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"among the labels", `{"name":"a","op":"inc","labels":{"a":"1","z":"2"}}`, `a=1 instance=here z=2`},
		{"without labels", `{"name":"a","op":"inc"}`, `instance=here`},
		{"in place of an empty one", `{"name":"a","op":"inc","labels":{"instance":"","b":"1"}}`, `b=1 instance=here`},
		{"after all others", `{"name":"a","op":"inc","labels":{"a":"1"}}`, `a=1 instance=here`},
		{"not where there is one", `{"name":"a","op":"inc","labels":{"instance":"there"}}`, `instance=there`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var dec datagram.Decoder
			dec.Reset([]byte(tt.in), false)
			m, err := dec.Next()
			if err != nil {
				t.Fatal(err)
			}
			before := len(m.Labels)
			to := &kept{}
			if err := (&router{to, "here"}).Put(m); err != nil || len(m.Labels) != before {
				t.Fatalf("%v, %d labels of %d", err, len(m.Labels), before)
			}
			var labels []string
			for _, l := range to.last.Labels {
				labels = append(labels, l.Name+"="+l.Value)
			}
			if got := strings.Join(labels, " "); got != tt.want {
				t.Error(got)
			}
		})
	}
}

// kept keeps the last message.
type kept struct{ last *datagram.Message }

func (k *kept) Put(m *datagram.Message) error { k.last = m; return nil }
