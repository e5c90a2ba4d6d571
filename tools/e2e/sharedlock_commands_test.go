package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func (s *lockServer) command(t *testing.T, sub string, args ...string) result {
	t.Helper()
	return command(t, nil, append([]string{program("shared-lock"), sub, "-shared-lock-url", s.url}, args...)...)
}

func TestTheCommandsForOperators(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	resp, err := http.Post(s.url+"/v1/locks/jobs%2Fa/acquire", "", strings.NewReader(`{"owner":"me","host":"h","pod":"p\u001b[31m","ttl":"1h","labels":{"a":"b"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Token   int64
		Cluster string
	}
	if err := json.Unmarshal(text, &got); err != nil || resp.StatusCode != http.StatusCreated || got.Token <= 0 || got.Cluster == "" {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	if header := resp.Header.Get("X-Fencing-Token"); header != fmt.Sprint(got.Token) {
		t.Errorf("X-Fencing-Token %q, token %d", header, got.Token)
	}
	if status, _ := s.ask(t, "POST", "/v1/locks/other/acquire", `{"ttl":"1h"}`); status != 201 {
		t.Fatalf("acquire: %d", status)
	}
	const head = `KEY +SLOT +OWNER +HOST +POD +HELD FOR +REMAINING +WAITERS\n`
	line := `jobs/a +0 +me +h +"p\\x1b\[31m" +\d+s +(?:59m\d+\.\d+s|1h0m0s) +0\n` // what others wrote does nothing to a terminal
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"ls", `^` + head + line + `other +0 +- .*\n$`, 0},
		{"ls jobs/", `^` + head + line + `$`, 0},
		{"ls nothing", `^` + head + `$`, 0},
		{"ls -json jobs/", `^\{"locks":\[\{"key":"jobs/a","holders":\[\{"owner":"me",.*"labels":\{"a":"b"\}`, 0},
		{"inspect jobs/a", `^` + head + line + `$`, 0},
		{"inspect -json jobs/a", `^\{"key":"jobs/a","holders":\[`, 0},
		{"inspect nothing", `^nobody holds "nothing"\n$`, 1},
		{"release jobs/a", `give either -token N, of the holder, or -force`, 2},
		{fmt.Sprintf("release -token %d jobs/a", got.Token+1), `holds the lock no more`, 1},
		{fmt.Sprintf("release -token %d jobs/a", got.Token), ``, 0},
		{"release -force other", ``, 0},
		{"release -force other", `no more|nobody`, 1},
		{"ls", `^` + head + `$`, 0},
	} {
		args := strings.Fields(test.args)
		r := s.command(t, args[0], args[1:]...)
		if r.code != test.code || !regexp.MustCompile(test.want).MatchString(r.stdout+r.stderr) {
			t.Errorf("%s: exit code %d and\n%s%s\nwant %d and %s", test.args, r.code, r.stdout, r.stderr, test.code, test.want)
		}
		if strings.Contains(r.stdout, "token") {
			t.Errorf("%s tells the token: %s", test.args, r.stdout)
		}
	}
}

// Debian's etcd has the bugs that the warning is about.
func TestAnOldEtcdIsWarnedOf(t *testing.T) {
	t.Parallel()
	needs(t, "etcd")
	etcd := startEtcd(t)
	s := startLockReplica(t, etcd.addr)
	s.stderr.waitFor(t, regexp.MustCompile(`level=warn msg="etcd has bugs that break leases: locks may end early; update it" endpoint=\S+ version=3\.4\.`))
	const ttl = 2 * time.Second
	status, token := s.ask(t, "POST", "/v1/locks/k/acquire", `{"ttl":"2s"}`)
	if status != 201 {
		t.Fatalf("acquire: %d", status)
	}
	began := time.Now()
	if status, _ := s.ask(t, "PUT", "/v1/locks/k/renew", fmt.Sprintf(`{"token":%d}`, token)); status != 200 {
		t.Errorf("renew: %d", status)
	}
	status, next := s.ask(t, "POST", "/v1/locks/k/acquire", `{"ttl":"500ms","wait":"10s"}`)
	if took := time.Since(began); status != 201 || next <= token || took < ttl || took > ttl+5*time.Second {
		t.Errorf("the next one: %d, token %d after %d, in %v", status, next, token, took)
	}
}
