package probe

import (
	"net/url"
	"strings"
	"testing"
	"unicode"
)

func TestRedact(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"an address stays":                     {"http://127.0.0.1:80/healthz", "http://127.0.0.1:80/healthz"},
		"an IPv6 address stays":                {"http://[::1]:80/", "http://[::1]:80/"},
		"the user is hidden":                   {"http://me@h/", "http://xxxxx@h/"},
		"the user and the password are hidden": {"http://me:pw@h/", "http://xxxxx@h/"},
		"values are hidden, keys are not":      {"http://h/?a=1&b=2", "http://h/?a=xxxxx&b=xxxxx"},
		"what has no value may be the secret":  {"http://h/?t0ken", "http://h/?xxxxx"},
		"so may padded base64":                 {"http://h/?dG9rZW4==", "http://h/?xxxxx"},
		"so may a long key":                    {"http://h/?" + strings.Repeat("k", 41) + "=1", "http://h/?xxxxx"},
		"semicolons part, too":                 {"http://h/?a=1;b=2", "http://h/?a=xxxxx&b=xxxxx"},
		"the fragment is dropped":              {"http://h/#t0ken", "http://h/"},
		"an opaque address is dropped":         {"http:t0ken", "http:"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := redact(u); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// FuzzRedact puts a secret in every place where a URL can hide one.
func FuzzRedact(f *testing.F) {
	f.Add("me", "/a", "a", "&b=2")
	f.Add("", "", "", "==&&=;q")
	f.Add("u:p@", "/%2f\n", "x=y&token", "%")
	f.Fuzz(func(t *testing.T, user, path, key, rest string) {
		const secret = "s3cr3t"
		if strings.Contains(user+path+key+rest, secret) {
			return // as a path or as a key it is none
		}
		u := &url.URL{
			Scheme: "http", User: url.UserPassword(user+secret, secret+rest), Host: "h:80", Path: path,
			RawQuery: key + "=" + secret + rest + "&" + secret, Fragment: secret,
		}
		got := redact(u)
		if strings.Contains(got, secret) {
			t.Errorf("redact(%q) = %q", u, got)
		}
		if strings.ContainsFunc(got, unicode.IsControl) || len([]rune(got)) > 201 {
			t.Errorf("redact(%q) = %q is not a short line", u, got)
		}
	})
}

// FuzzHTTPErrors checks that no refusal of a URL repeats its secret.
func FuzzHTTPErrors(f *testing.F) {
	f.Add("http://", "@h:port/")
	f.Add("ftp://u:", "@h")
	f.Add("http://h/?a=", "\x00")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "s3cr3t"
		raw := before + "user:" + secret + "@" + after
		u, err := url.Parse(raw)
		if err == nil && strings.Contains(u.Scheme+u.Host+u.Path, secret) {
			return // it is not where a password is
		}
		if _, err := HTTP(HTTPConfig{URL: raw}); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("HTTP(%q): %v", raw, err)
		}
	})
}
