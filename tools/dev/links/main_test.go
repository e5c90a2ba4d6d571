package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLinksAreFound(t *testing.T) {
	page := "See [it](https://github.com/a/b), <https://skarnet.org/software/s6/>, or https://semver.org/x.\n" +
		"```sh\ncurl https://dead.example.org\n```\n`https://other.example.org` " + "`" + ours + "/blob/main/x`\n"
	want := []string{"https://github.com/a/b", ours + "/blob/main/x", "https://semver.org/x", "https://skarnet.org/software/s6/"}
	if got := linksOf("x.md", page); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := linksOf("x.service", page); !slices.Equal(got, want[1:2]) {
		t.Errorf("%q", got)
	}
}

func TestLinksAreChecked(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "page.md"), []byte("# A page\n\n## What is `it`?\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, link, says string }{
		{"a known host", "https://github.com/a/b", ""},
		{"a mistyped host", "https://githup.com/a/b", "githup.com is no known host"},
		{"without TLS", "http://github.com/a", "is not https"},
		{"no URL", "https://github.com/%zz", "invalid URL escape"},
		{"a port", "https://github.com:8443/", "a user or a port"},
		{"the reader's own machine", "http://localhost:4040", ""},
		{"an example", "http://registry.example.com/x", ""},
		{"a service of a cluster", "http://loki:3100", ""},
		{"a file of ours", ours + "/blob/main/page.md", ""},
		{"a heading of ours", ours + "/blob/main/page.md#what-is-it", ""},
		{"a file of ours that is gone", ours + "/blob/main/gone.md", "no such file"},
		{"a heading of ours that is gone", ours + "/blob/main/page.md#gone", "page.md has no heading gone"},
		{"a template", ours + "/blob/v{{ .Version }}/CHANGELOG.md", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := check(root, test.link)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLinksAreAsked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/there":
			_, _ = w.Write([]byte(`<h1 id="here">`))
		case "/shy":
			w.WriteHeader(http.StatusForbidden)
		case "/moved":
			http.Redirect(w, r, "/there", http.StatusMovedPermanently)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	for path, says := range map[string]string{"/there": "", "/there#here": "", "/shy": "", "/moved": "", "/gone": "status 404", "/there#gone": "nothing called gone"} {
		err := ask(t.Context(), server.Client(), server.URL+path)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", path, err)
		}
	}
	server.Close()
	if err := ask(t.Context(), server.Client(), server.URL); err == nil {
		t.Error("a server that is gone is no error")
	}
}

func TestAPageWithABadLinkIsRefused(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "page.md"), []byte("[x](https://nowhere.invalid/)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"-root", root, "page.md"}, &out); err == nil || !strings.Contains(err.Error(), "page.md: https://nowhere.invalid/: nowhere.invalid is no known host") {
		t.Errorf("%v", err)
	}
}
