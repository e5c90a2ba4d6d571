package prommerge_test

import (
	"mime"
	"strings"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

const (
	omName    = "application/openmetrics-text"
	protoName = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

func TestThePageIsInTheFormatThatTheScraperLikesBest(t *testing.T) {
	for _, tt := range []struct{ name, accept, want string }{
		{"nothing", "", textType},
		{"anything", "*/*", textType},
		{"nonsense", ";;,=q,text/plain;q=high", textType},
		{"formats that nobody knows", "application/json,text/html", textType},
		{"text of a version to come", "text/plain;version=2.0.0", textType},
		{"text 0.0.4", "text/plain;version=0.0.4", textType},
		{"text 1.0.0", "text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"},
		{"text 1.0.0 with UTF-8 names", acceptUTF8, "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"},
		{"an escaping that nobody knows", "text/plain;version=1.0.0;escaping=rot13", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"},
		{"OpenMetrics without a version", omName, "application/openmetrics-text; version=0.0.1; charset=utf-8"},
		{"OpenMetrics 0.0.1", omName + ";version=0.0.1", "application/openmetrics-text; version=0.0.1; charset=utf-8"},
		{"OpenMetrics 1.0.0", omName + ";version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"},
		{"OpenMetrics 1.0.0 with escaping", omName + ";version=1.0.0;escaping=values", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=values"},
		{"protobuf", protoName, protoType},
		{"protobuf with UTF-8 names", protoName + ";escaping=allow-utf-8", protoType + "; escaping=allow-utf-8"},
		{"protobuf that is not delimited", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", textType},
		{"the higher q wins, wherever it stands", "text/plain;version=0.0.4;q=0.2," + omName + ";version=1.0.0;q=0.5," + protoName + ";q=0.1", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"},
		{"the first of equals wins", protoName + ";q=0.5," + omName + ";version=1.0.0;q=0.5", protoType},
		{"q=0 refuses", omName + ";version=1.0.0;q=0,text/plain;q=0.1", textType},
		{"a q above 1 is nonsense", omName + ";version=1.0.0;q=7,text/plain;q=0.1", textType},
		{"Prometheus 2", "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
			"application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"},
		{"Prometheus 3 with native histograms", protoName + ";escaping=allow-utf-8;q=0.6," + omName + ";version=1.0.0;escaping=allow-utf-8;q=0.5," + omName + ";version=0.0.1;q=0.4," +
			"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", protoType + "; escaping=allow-utf-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, got, _ := gather(t, prommerge.New(quiet(prommerge.Options{})), tt.accept)
			if got != tt.want {
				t.Errorf("Content-Type %q, want %q", got, tt.want)
			}
			wantPage(t, got, tt.accept)
		})
	}
}

// wantPage checks that pages of that Content-Type, which an Accept header leads to, are what it says.
func wantPage(t *testing.T, contentType, accept string) {
	t.Helper()
	in := map[string]string{"text/plain": "a 1\n", omName: "a 1\n# EOF\n", "application/vnd.google.protobuf": string(encodeProto(gaugeFamily("a", 1)))}
	name, _, err := mime.ParseMediaType(contentType)
	if err != nil || in[name] == "" {
		t.Fatalf("Content-Type %q: %v", contentType, err)
	}
	page, again, rs := gather(t, prommerge.New(quiet(prommerge.Options{})), accept, opened("x", contentType, []byte(in[name])))
	if again != contentType || !rs[0].Up {
		t.Fatalf("Content-Type %q, then %q, %v", contentType, again, rs[0].Err)
	}
	if name == "application/vnd.google.protobuf" {
		fams, err := decodeProto([]byte(page))
		if err != nil {
			t.Fatal(err)
		}
		page = encodeText(fams)
	}
	if p, err := checkPage(page, name == omName); err != nil || len(p.with("x")) != 1 {
		t.Errorf("%v in\n%s", err, page)
	}
}

// Whatever a scraper says, it gets a page that its Content-Type describes.
func FuzzAccept(f *testing.F) {
	for _, s := range []string{"", "*/*;q=0.1", acceptUTF8, acceptOM8, protoName + ";q=0.5,text/plain;q=0.4", omName + ";version=1.0.0;q=1.5;escaping=\"dots\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		_, got, _ := gather(t, prommerge.New(quiet(prommerge.Options{})), accept)
		wantPage(t, got, accept)
		if strings.ContainsAny(got, "\r\n") {
			t.Errorf("Content-Type %q", got)
		}
	})
}

func TestATypeConflictInOpenMetricsLosesNoSample(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{}))
	a := opened("a", omType, []byte("# TYPE m gauge\n# HELP m one\nm 1\n# EOF\n"))
	b := opened("b", omType, []byte("# TYPE m counter\n# HELP m two\nm_total 2 # {t=\"u\"} 1\nm_created 3\n# EOF\n"))
	for range 3 {
		page, ct, rs := gather(t, m, acceptOM, a, b)
		if p, err := checkPage(page, true); err != nil || len(p.with("a")) != 1 || len(p.with("b")) != 2 || p.meta["TYPE m"] != "gauge" || p.meta["HELP m"] != "one" {
			t.Errorf("%v, %v in\n%s", err, rs, page)
		}
		if !strings.HasPrefix(ct, omName) || !strings.Contains(page, "m_total{process_name=\"b\"} 2 # {t=\"u\"} 1\n") {
			t.Errorf("%s\n%s", ct, page)
		}
	}
	if page, _, _ := gather(t, m, acceptOM, a, b); !strings.Contains(page, "\nprommerge_type_conflicts_total 4\n") {
		t.Errorf("conflicts are not counted in\n%s", page)
	}
}
