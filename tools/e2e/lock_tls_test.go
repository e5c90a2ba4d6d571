package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const lockSecret = "secret-of-the-pods"

// lockTLS is a server that speaks TLS, and what gets into it.
type lockTLS struct {
	*lockServer
	ours, theirs *authority
	cert, key    string // of a client
	token        string // the file
}

func startLockTLS(t *testing.T, mutual bool) *lockTLS {
	t.Helper()
	s := &lockTLS{ours: newAuthority(t), theirs: newAuthority(t)}
	cert, key := s.ours.issue("server")
	s.cert, s.key = s.ours.issue("pod")
	s.token = write(t, "token", lockSecret+"\n")
	access := write(t, "access.json", `{"tokens":[{"name":"pods","token":"`+lockSecret+`","prefixes":["pods/"],"rights":["hold"]}]}`)
	args := []string{"-tls-cert", cert, "-tls-key", key, "-access-file", access}
	if mutual {
		args = append(args, "-tls-client-ca", s.ours.file)
	}
	s.lockServer = startSharedLock(t, t.TempDir(), args...)
	s.url = strings.Replace(s.url, "http:", "https:", 1)
	return s
}

// pod starts process-wrapper with the given files; "" for none.
func (s *lockTLS) pod(t *testing.T, config, ca, cert, key, token string) *wrapper {
	t.Helper()
	return start(t, options{config: config, args: []string{"-shared-lock-url", s.url}, env: []string{"SHARED_LOCK_CA_CERT=" + ca,
		"SHARED_LOCK_CLIENT_CERT=" + cert, "SHARED_LOCK_CLIENT_KEY=" + key, "SHARED_LOCK_TOKEN_FILE=" + token}})
}

func TestAPodHoldsItsLockOverTLS(t *testing.T) {
	t.Parallel()
	for name, mutual := range map[string]bool{"the server has a certificate": false, "both have one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startLockTLS(t, mutual)
			cert, key := "", ""
			if mutual {
				cert, key = s.cert, s.key
			}
			const ttl = time.Second
			config, file := holder(t, "key: pods/job, ttlDuration: "+ttl.String())
			config = begins(config)
			a := s.pod(t, config, s.ours.file, cert, key, s.token)
			first := holds(t, file, 1)
			b := s.pod(t, config, s.ours.file, cert, key, s.token)
			if st := b.in("job", "standby"); !strings.HasPrefix(st.Detail, `waiting for its lock: held by "job"`) {
				t.Errorf("the standby says %q", st.Detail)
			}
			<-time.After(2 * ttl) // it is renewed
			if st := a.states()["job"]; st.Restarts != 0 || !st.Ready {
				t.Errorf("%+v", st)
			}
			if got := a.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			ended := spans(t, file)[0].last
			holds(t, file, 2)
			if took := begun(t, file) - ended; took > 500*time.Millisecond { // without a release it is a TTL
				t.Errorf("the next one came after %v", took)
			}
			if all := judge(t, file); first.token != all[0].token {
				t.Errorf("%+v", all)
			}
			for _, w := range []*wrapper{a, b} {
				if strings.Contains(w.stdout.String()+w.stderr.String(), lockSecret) {
					t.Error("the token is in the log")
				}
			}
		})
	}
}

func TestAPodThatIsNotLetInWaitsAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := startLockTLS(t, true)
	strangerCert, strangerKey := s.theirs.issue("stranger")
	wrong := write(t, "wrong", "another-secret-of-16\n")
	for _, test := range []struct {
		name                 string
		key                  string
		ca, cert, pair, file string // of the client
		want                 string
		mend                 map[string]string // file to be replaced by another one, after which it gets the lock
	}{
		{"no authority", "pods/1", "", s.cert, s.key, s.token, "certificate signed by unknown authority", nil},
		{"another authority", "pods/2", s.theirs.file, s.cert, s.key, s.token, "certificate signed by unknown authority", nil},
		{"no certificate", "pods/3", s.ours.file, "", "", s.token, "certificate required", nil},
		{"a certificate of another authority", "pods/4", s.ours.file, strangerCert, strangerKey, s.token, "unknown certificate authority",
			map[string]string{strangerCert: s.cert, strangerKey: s.key}},
		{"no token", "pods/5", s.ours.file, s.cert, s.key, "", "shared-lock answers 401: send a known token", nil},
		{"a wrong token", "pods/6", s.ours.file, s.cert, s.key, wrong, "shared-lock answers 401: send a known token", map[string]string{wrong: s.token}},
		{"a key that the token is not for", "others/7", s.ours.file, s.cert, s.key, s.token, `shared-lock answers 403: the token of "pods" may not hold here`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			config, file := holder(t, "ttlDuration: 1s, key: "+test.key)
			w := s.pod(t, config, test.ca, test.cert, test.pair, test.file)
			st := w.until("job", "says why it waits", func(s state) bool { return strings.Contains(s.Detail, test.want) })
			if st.Phase != "standby" {
				t.Errorf("%+v", st)
			}
			if all := spans(t, file); len(all) > 0 {
				t.Fatalf("it ran: %+v", all)
			}
			if text := w.stdout.String() + w.stderr.String() + st.Detail; strings.Contains(text, lockSecret) || strings.Contains(text, "another-secret") {
				t.Errorf("a token is in the log or in the state:\n%s", text)
			}
			if test.mend == nil {
				return
			}
			for old, from := range test.mend {
				replace(t, old, from)
			}
			holds(t, file, 1)
		})
	}
}

func TestBadFilesForTheServerOfLocks(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("x")
	empty := write(t, "empty", "")
	config, _ := holder(t, "")
	config = write(t, "config.yaml", config)
	for name, test := range map[string]struct {
		env  string
		want string
	}{
		"no CA":                      {"SHARED_LOCK_CA_CERT=/none", "SHARED_LOCK_CA_CERT: stat /none: no such file or directory"},
		"a CA without a certificate": {"SHARED_LOCK_CA_CERT=" + empty, "SHARED_LOCK_CA_CERT: there is no certificate in " + empty},
		"a certificate alone":        {"SHARED_LOCK_CLIENT_CERT=" + cert, "set both SHARED_LOCK_CLIENT_CERT and SHARED_LOCK_CLIENT_KEY, or none"},
		"a key alone":                {"SHARED_LOCK_CLIENT_KEY=" + key, "set both SHARED_LOCK_CLIENT_CERT and SHARED_LOCK_CLIENT_KEY, or none"},
		"no key in it":               {"SHARED_LOCK_CLIENT_KEY=" + cert + " SHARED_LOCK_CLIENT_CERT=" + cert, "SHARED_LOCK_CLIENT_CERT: tls: found a certificate rather than a key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, strings.Fields(test.env), program("process-wrapper"), "-config", config, "-shared-lock-url", "https://127.0.0.1:1")
			if got.code != 2 || !strings.Contains(got.stderr, test.want) {
				t.Errorf("got %d %s\nwant 2 and %s", got.code, got.stderr, test.want)
			}
		})
	}
}

// replace puts a copy of a file in the place of another, at once.
func replace(t *testing.T, old, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		next := filepath.Join(filepath.Dir(old), fmt.Sprintf("next-%d", time.Now().UnixNano()))
		if err = os.WriteFile(next, text, 0o600); err == nil {
			err = os.Rename(next, old)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
