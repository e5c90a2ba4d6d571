package metadata

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const base = gceBase + "/"

// newServer makes a server that is closed with the test.
func newServer(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask sends a request as Google's clients do; more are further headers, as pairs. A header with an
// empty value is left out.
func ask(s http.Handler, method, target string, more ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://metadata.google.internal"+target, strings.NewReader("body"))
	r.Header.Set("Metadata-Flavor", "Google")
	for pair := range slices.Chunk(more, 2) {
		if pair[1] == "" {
			r.Header.Del(pair[0])
		} else {
			r.Header.Set(pair[0], pair[1])
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestGCEAnswers(t *testing.T) {
	const html = "text/html; charset=UTF-8"
	for _, test := range []struct {
		name, method, target string
		header               []string
		status               int
		mime                 string
		body                 string // whole, or with … in front the part that it has to hold
	}{
		{"a value has no newline at its end", "GET", base + "instance/preempted", nil, 200, mimeText, "FALSE"},
		{"HEAD is GET without a body", "HEAD", base + "instance/preempted", nil, 200, mimeText, "FALSE"}, // net/http cuts it off
		{"the flavor header is required", "GET", base + "instance/preempted", []string{"Metadata-Flavor", ""}, 403, html,
			"…does not have permission to get URL <code>/computeMetadata/v1/instance/preempted</code> from this server. Missing Metadata-Flavor:Google header."},
		{"the flavor is spelled exactly so", "GET", base + "instance/preempted", []string{"Metadata-Flavor", "google"}, 403, html, "…Missing Metadata-Flavor"},
		{"forwarded requests are refused", "GET", base + "instance/preempted", []string{"X-Forwarded-For", "10.0.0.1"}, 403, html, "…X-Forwarded-For"},
		{"forwarded requests for the root are refused", "GET", "/", []string{"X-Forwarded-For", "10.0.0.1"}, 403, html, "…X-Forwarded-For"},
		{"the root needs no header", "GET", "/", []string{"Metadata-Flavor", ""}, 200, mimeText, "computeMetadata/\n"},
		{"below the root the header is required", "GET", "/computeMetadata/", []string{"Metadata-Flavor", ""}, 403, html, "…Missing"},
		{"the versions", "GET", "/computeMetadata/", nil, 200, mimeText, "v1/\n"},
		{"the top is a directory", "GET", base, nil, 200, mimeText, "instance/\nproject/\nuniverse/\n"},
		{"POST is not allowed", "POST", base + "instance/preempted", nil, 405, html, "…<code>POST</code>"},
		{"PUT is not allowed", "PUT", base + "instance/attributes/a", nil, 405, html, "…<code>PUT</code>"},
		{"DELETE is not allowed", "DELETE", base + "instance/preempted", nil, 405, html, "…<code>DELETE</code>"},
		{"a directory without its slash redirects", "GET", base + "instance", nil, 301, mimeText, base + "instance/\n"},
		{"the base without its slash redirects", "GET", gceBase, nil, 301, mimeText, base + "\n"},
		{"a value with a slash is not found", "GET", base + "instance/preempted/", nil, 404, html, "…Error 404 (Not Found)!!1"},
		{"an unknown key is not found", "GET", base + "instance/nope", nil, 404, html, "…<code>/computeMetadata/v1/instance/nope</code>"},
		{"a key below a value is not found", "GET", base + "instance/preempted/x", nil, 404, html, "…Not Found"},
		{"dots are names like others", "GET", base + "instance/../project/project-id", nil, 404, html, "…Not Found"},
		{"encoded dots are too", "GET", base + "instance/%2e%2e/project/project-id", nil, 404, html, "…Not Found"},
		{"two slashes lead nowhere", "GET", base + "instance//preempted", nil, 404, html, "…Not Found"},
		{"a path is written as text", "GET", base + "%3Cscript%3E", nil, 404, html, "…&lt;script&gt;"},
		{"an older version is not found", "GET", "/computeMetadata/v1beta1/instance/preempted", nil, 404, html, "…Not Found"},
		{"a listing marks directories, not lists", "GET", base + "instance/service-accounts/default/", nil, 200, mimeText, "aliases\nemail\nidentity\nscopes\ntoken\n"},
		{"an empty directory", "GET", base + "project/attributes/", nil, 200, mimeText, ""},
		{"a string as JSON is quoted", "GET", base + "instance/preempted?alt=json", nil, 200, mimeJSON, `"FALSE"`},
		{"a number as JSON is none", "GET", base + "instance/id?alt=json", nil, 200, mimeJSON, "4520031799277581759"},
		{"a number as text", "GET", base + "instance/id", nil, 200, mimeText, "4520031799277581759"},
		{"a list has a line for each", "GET", base + "instance/service-accounts/default/scopes", nil, 200, mimeText, "https://www.googleapis.com/auth/cloud-platform\n"},
		{"tags are JSON unless asked otherwise", "GET", base + "instance/tags", nil, 200, mimeJSON, "[]"},
		{"alt on a directory is refused", "GET", base + "instance/?alt=json", nil, 400, html, "…recursive=true"},
		{"another alt is refused", "GET", base + "instance/preempted?alt=xml", nil, 400, html, "…use json or text"},
		{"recursive is JSON with camelCase keys", "GET", base + "instance/scheduling/?recursive=true", nil, 200, mimeJSON,
			`{"automaticRestart":"FALSE","onHostMaintenance":"TERMINATE","preemptible":"TRUE"}`},
		{"recursive may be said with yes", "GET", base + "universe/?recursive=yes", nil, 200, mimeJSON, `{"universeDomain":"googleapis.com"}`},
		{"recursive may be said with on", "GET", base + "universe/?recursive=on", nil, 200, mimeJSON, `{"universeDomain":"googleapis.com"}`},
		{"recursive may be said with 1", "GET", base + "universe/?recursive=1", nil, 200, mimeJSON, `{"universeDomain":"googleapis.com"}`},
		{"recursive=false is a listing", "GET", base + "universe/?recursive=false", nil, 200, mimeText, "universe-domain\n"},
		{"recursive as text", "GET", base + "instance/scheduling/?recursive=true&alt=text", nil, 200, mimeText,
			"automatic-restart FALSE\non-host-maintenance TERMINATE\npreemptible TRUE\n"},
		{"recursive text has paths", "GET", base + "project/?recursive=true&alt=text", nil, 200, mimeText, "numeric-project-id 123456789012\nproject-id mock-project\n"},
		{"numbers stay numbers", "GET", base + "project/?recursive=true", nil, 200, mimeJSON, `{"attributes":{},"numericProjectId":123456789012,"projectId":"mock-project"}`},
		{"keys of attributes stay, of accounts too, tokens are left out", "GET", base + "instance/?recursive=true", nil, 200, mimeJSON,
			`…"attributes":{"cluster-location":"us-central1","cluster-name":"mock-cluster"}`},
		{"keys of attributes stay in an answer of attributes alone", "GET", base + "instance/attributes/?recursive=true", nil, 200, mimeJSON,
			`{"cluster-location":"us-central1","cluster-name":"mock-cluster"}`},
		{"accounts without tokens", "GET", base + "instance/service-accounts/?recursive=true", nil, 200, mimeJSON,
			`{"default":{"aliases":["default"],"email":"123456789012-compute@developer.gserviceaccount.com","scopes":["https://www.googleapis.com/auth/cloud-platform"]}}`},
		{"recursive needs the slash too", "GET", base + "instance?recursive=true", nil, 301, mimeText, base + "instance/\n"},
		{"waiting for a directory needs recursive", "GET", base + "instance/?wait_for_change=true", nil, 400, html, "…recursive=true"},
		{"a timeout that is none", "GET", base + "instance/preempted?timeout_sec=soon", nil, 400, html, "…timeout_sec is &#34;soon&#34;"},
		{"a timeout below zero", "GET", base + "instance/preempted?wait_for_change=true&timeout_sec=-1", nil, 400, html, "…timeout_sec"},
		{"a token", "GET", base + "instance/service-accounts/default/token", nil, 200, mimeJSON, `{"access_token":"mock-access-token","expires_in":3599,"token_type":"Bearer"}`},
		{"an identity needs an audience", "GET", base + "instance/service-accounts/default/identity", nil, 400, html, "…audience"},
		{"an identity", "GET", base + "instance/service-accounts/default/identity?audience=me", nil, 200, "text/html", "mock-header.mock-claims.mock-signature"},
		{"a guest attribute without a key", "PUT", base + "instance/guest-attributes/space", nil, 400, html, "…NAMESPACE/KEY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := ask(newServer(t, Config{}), test.method, test.target, test.header...)
			if w.Code != test.status || w.Header().Get("Content-Type") != test.mime {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Header().Get("Content-Type"), test.status, test.mime)
			}
			part, isPart := strings.CutPrefix(test.body, "…")
			if isPart && !strings.Contains(w.Body.String(), part) || !isPart && w.Body.String() != test.body {
				t.Errorf("body\ngot  %q\nwant %q", w.Body, test.body)
			}
			for name, want := range map[string]string{
				"Metadata-Flavor": "Google", "Server": "Metadata Server for VM", "X-XSS-Protection": "0", "X-Frame-Options": "SAMEORIGIN",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
			if etag := w.Header().Get("Etag"); (etag != "") != (test.status == 200) {
				t.Errorf("ETag %q of a %d", etag, test.status)
			}
		})
	}
}

func TestGCEServesTheKeysThatClientsAskFor(t *testing.T) {
	s := newServer(t, Config{Notice: 1})
	for key, want := range map[string]string{
		"instance/preempted":                      "FALSE",
		"instance/maintenance-event":              "NONE",
		"instance/upcoming-maintenance":           "NONE",
		"instance/shutdown-details/stop-state":    "UNSPECIFIED",
		"instance/scheduling/automatic-restart":   "FALSE",
		"instance/scheduling/on-host-maintenance": "TERMINATE",
		"instance/scheduling/preemptible":         "TRUE",
		"instance/id":                             "4520031799277581759",
		"instance/name":                           "mock-vm",
		"instance/zone":                           "projects/123456789012/zones/us-central1-a",
		"instance/hostname":                       "mock-vm.c.mock-project.internal",
		"instance/machine-type":                   "projects/123456789012/machineTypes/e2-standard-2",
		"instance/attributes/":                    "cluster-location\ncluster-name\n",
		"instance/tags":                           "[]",
		"instance/service-accounts/default/email": "123456789012-compute@developer.gserviceaccount.com",
		"project/project-id":                      "mock-project",
		"project/numeric-project-id":              "123456789012",
		"project/attributes/":                     "",
		"universe/universe-domain":                "googleapis.com",
	} {
		if w := ask(s, "GET", base+key); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: got %d %q, want %q", key, w.Code, w.Body, want)
		}
	}
	if w := ask(newServer(t, Config{}), "GET", base+pathStopState); w.Code != 404 {
		t.Errorf("without a notice %s is %d, want 404: the feature is off", pathStopState, w.Code)
	}
}

func TestRedirectsLeadToTheHostThatWasAsked(t *testing.T) {
	w := ask(newServer(t, Config{}), "GET", base+"instance?recursive=true")
	if got, want := w.Header().Get("Location"), "http://metadata.google.internal/computeMetadata/v1/instance/?recursive=true"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestETags(t *testing.T) {
	s := newServer(t, Config{})
	tagOf := func(target string) string {
		t.Helper()
		w := ask(s, "GET", base+target)
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", target, w.Code, w.Body)
		}
		return w.Header().Get("Etag")
	}
	first, dir := tagOf("instance/preempted"), tagOf("instance/?recursive=true")
	if len(first) != 16 || strings.Trim(first, "0123456789abcdef") != "" {
		t.Errorf("ETag %q, want 16 hex digits", first)
	}
	if json := tagOf("instance/preempted?alt=json"); json != first {
		t.Errorf("alt changes the ETag of a value: %q and %q", first, json)
	}
	if text := tagOf("instance/?recursive=true&alt=text"); text != dir {
		t.Errorf("alt changes the ETag of a directory: %q and %q", dir, text)
	}
	s.Preempt()
	if tagOf("instance/preempted") == first || tagOf("instance/?recursive=true") == dir {
		t.Error("the ETag is the same after a change")
	}
	set(t, s, pathPreempted, "FALSE")
	if again := tagOf("instance/preempted"); again != first {
		t.Errorf("ETag %q after the value came back, want %q as before", again, first)
	}
}

func set(t *testing.T, s *Server, path, value string) {
	t.Helper()
	if err := s.Set(path, value); err != nil {
		t.Fatal(err)
	}
}

func TestGuestAttributesArePut(t *testing.T) {
	s := newServer(t, Config{})
	if w := ask(s, "PUT", base+"instance/guest-attributes/space/key"); w.Code != 200 {
		t.Fatalf("PUT: %d %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", base+"instance/guest-attributes/?recursive=true"); w.Body.String() != `{"space":{"key":"body"}}` {
		t.Errorf("got %s", w.Body)
	}
	r := httptest.NewRequest("PUT", base+"instance/guest-attributes/space/big", strings.NewReader(strings.Repeat("x", maxValue+1)))
	r.Header.Set("Metadata-Flavor", "Google")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("a value that is too long: got %d, want 400", w.Code)
	}
}

func TestWorkloadIdentityHidesTheMachine(t *testing.T) {
	s := newServer(t, Config{Personality: GKEWorkloadIdentity, WarmUp: -1})
	s.Preempt()
	for _, key := range []string{"instance/preempted", "instance/maintenance-event", "instance/name", "instance/scheduling/"} {
		if w := ask(s, "GET", base+key); w.Code != 404 || w.Body.String() != "Not Found\n" {
			t.Errorf("%s: got %d %q", key, w.Code, w.Body)
		}
	}
	if w := ask(s, "GET", base+"instance/attributes/cluster-name"); w.Code != 200 || w.Body.String() != "mock-cluster" {
		t.Errorf("cluster-name: got %d %q", w.Code, w.Body)
	}
}

func TestSetRefusesWhatCannotBe(t *testing.T) {
	s := newServer(t, Config{})
	for _, test := range []struct{ name, path, value, want string }{
		{"an empty path", "", "x", `"" is no path: write one such as instance/attributes/color`},
		{"a path with dots", "instance/../x", "x", `"instance/../x" is no path: write one such as instance/attributes/color`},
		{"a path with a slash in front", "/instance/x", "x", `"/instance/x" is no path: write one such as instance/attributes/color`},
		{"a path with a blank", "instance/a b", "x", `"instance/a b" is no path: write one such as instance/attributes/color`},
		{"a directory", "instance/scheduling", "x", "set instance/scheduling: it is a directory; set one of automatic-restart, on-host-maintenance, preemptible below it"},
		{"below a value", "instance/preempted/x", "x", "set instance/preempted/x: instance/preempted is a value, not a directory"},
		{"a number", "instance/id", "x", `set instance/id: "x" is not a whole number`},
		{"a long path", strings.Repeat("a", maxPath+1), "x", "a path of 1025 bytes: at most 1024 are allowed"},
		{"a long value", "instance/attributes/a", strings.Repeat("x", maxValue+1), "set instance/attributes/a: a value of 262145 bytes: at most 262144 are allowed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := s.Set(test.path, test.value)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetKeepsTheKindOfAValue(t *testing.T) {
	s := newServer(t, Config{})
	set(t, s, "instance/id", "7")
	set(t, s, "instance/tags", "a,b")
	set(t, s, "instance/attributes/a/b/c", "<d>")
	set(t, s, "project/attributes/my-dir/ssh-keys", "k")
	for key, want := range map[string]string{
		"instance/id?alt=json":                   "7",
		"instance/tags":                          `["a","b"]`,
		"instance/tags?alt=text":                 "a\nb\n",
		"instance/attributes/a/?recursive=yes":   `{"b":{"c":"<d>"}}`,
		"project/attributes/?recursive=1":        `{"my-dir":{"ssh-keys":"k"}}`,
		"project/attributes/my-dir/?recursive=1": `{"ssh-keys":"k"}`,
		"project/?recursive=1":                   `{"attributes":{"my-dir":{"ssh-keys":"k"}},"numericProjectId":123456789012,"projectId":"mock-project"}`,
	} {
		if w := ask(s, "GET", base+key); w.Body.String() != want {
			t.Errorf("%s: got %q, want %q", key, w.Body, want)
		}
	}
}
