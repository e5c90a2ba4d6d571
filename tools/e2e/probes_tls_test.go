package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// certificateOf issues a certificate that a service can read, whoever it runs as.
func certificateOf(a *authority, name string) (cert, key string) {
	a.t.Helper()
	cert, key = a.issue(name)
	for _, file := range []string{a.file, cert} {
		if err := os.Chmod(file, 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// besideOthers is granted to tests that run while others do.
const besideOthers = 5 * time.Second

// secured is a process whose probe asks a service over TLS, and what the probe says, "" for nothing.
type secured struct{ name, config, want string }

func check(t *testing.T, w *wrapper, cases []secured) {
	t.Helper()
	for _, c := range cases {
		w.until(c.name, "says "+c.want, func(s state) bool {
			if c.want == "" {
				return s.Ready
			}
			return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, c.want)
		})
	}
}

func TestProbesOfRabbitMQOverTLS(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t), newAuthority(t)
	cert, key := certificateOf(ours, "broker")
	mine, myKey := ours.issue("probe")
	port := freePort(t)
	s := startRabbitMQ(t, "default_vhost = orders", fmt.Sprintf("listeners.ssl.1 = 127.0.0.1:%d", port), "ssl_options.cacertfile = "+ours.file,
		"ssl_options.certfile = "+cert, "ssl_options.keyfile = "+readable(t, key), "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = false")
	broker := func(name, vhost, query, want string) secured {
		template := fmt.Sprintf("amqps://%%v:%%v@127.0.0.1:%d/%s?%s", port, vhost, query)
		return secured{name, probed(name, "amqp: {reuseConn: "+strconv.FormatBool(strings.HasPrefix(name, "kept"))+"}", "envs: {AMQP_PROBE_RABBITMQ_DSN_TEMPLATE: '"+template+"'}"), want}
	}
	cases := []secured{
		broker("good-ca", "orders", "cacertfile="+ours.file, ""),
		broker("kept", "orders", "cacertfile="+ours.file, ""),
		broker("certificate", "orders", "cacertfile="+ours.file+"&certfile="+mine+"&keyfile="+myKey, ""),
		broker("wrong-ca", "orders", "cacertfile="+others.file, "certificate signed by unknown authority"),
		broker("no-ca", "orders", "", "certificate signed by unknown authority"),
		broker("absent-ca", "orders", "cacertfile=/nowhere/ca.pem", "open /nowhere/ca.pem: no such file or directory"),
		broker("another-name", "orders", "cacertfile="+ours.file+"&server_name_indication=elsewhere", "wanted to match elsewhere"),
		broker("another-vhost", "%2f", "cacertfile="+ours.file, "not found (530)"),
	}
	plain := fmt.Sprintf("amqps://%%v:%%v@127.0.0.1:%d/orders?cacertfile=%s", s.port, ours.file)
	cases = append(cases, secured{"no-tls-there", probed("no-tls-there", "amqp: {}", "envs: {AMQP_PROBE_RABBITMQ_DSN_TEMPLATE: '"+plain+"'}"), "first record does not look like a TLS handshake"})
	w := start(t, options{config: configOf(cases), env: s.amqpEnv()})
	check(t, w, cases)
	s.port = port // whose connections are counted
	d := dependOn(t, s, w, "good-ca", "kept", "certificate")
	d.slack = besideOthers
	s.signal(syscall.SIGSTOP)
	d.down(time.Now(), "paused", "timed out")
	s.signal(syscall.SIGCONT)
	d.up("after the pause")
	w.stop()
	noSecret(t, w)
}

func configOf(cases []secured) string {
	var text strings.Builder
	for _, c := range cases {
		text.WriteString(c.config)
	}
	return text.String()
}

// readable copies a key to a file that everybody may read; Erlang does not mind.
func readable(t *testing.T, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content(t, key), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbesOfDatabasesOverTLS(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t), newAuthority(t)
	cert, key := certificateOf(ours, "database")
	my := startMariaDB(t, "--ssl-ca="+ours.file, "--ssl-cert="+cert, "--ssl-key="+key, "--require-secure-transport=ON")
	pg := startPostgres(t, "ssl=on", "ssl_ca_file="+ours.file, "ssl_cert_file="+cert, "ssl_key_file="+key)
	database := func(name, dsn, query, contains, want string) secured {
		return secured{name, probed(name, fmt.Sprintf("sql: {queries: [%q], contains: [%q], dsn: %q}", query, contains, dsn)), want}
	}
	mysql := func(name, options, want string) secured {
		return database("my-"+name, my.mysqlDSN(servicePassword)+"?"+options, "SHOW STATUS LIKE 'Ssl_cipher'", "TLS_", want)
	}
	postgres := func(name, options, want string) secured {
		dsn := strings.ReplaceAll(pg.postgresDSN(servicePassword), "sslmode=disable", options)
		return database("pg-"+name, dsn, "SELECT ssl::text, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "true", want)
	}
	const unknown = "certificate signed by unknown authority"
	cases := []secured{
		mysql("good-ca", "tls=true&cacertfile="+ours.file, ""),
		mysql("wrong-ca", "tls=true&cacertfile="+others.file, unknown),
		mysql("no-ca", "tls=true", unknown),
		mysql("unverified", "tls=skip-verify", ""),
		mysql("no-tls", "timeout=5s", "Access denied"),
		postgres("good-ca", "sslmode=verify-full sslrootcert="+ours.file, ""),
		postgres("wrong-ca", "sslmode=verify-full sslrootcert="+others.file, unknown),
		postgres("no-ca", "sslmode=verify-full", unknown),
		postgres("unverified", "sslmode=require", ""),
		postgres("no-tls", "sslmode=disable", `no row holds "true"`),
	}
	w := start(t, options{config: configOf(cases)})
	check(t, w, cases)
	for _, s := range []*backend{my, pg} {
		name := map[*backend]string{my: "my-good-ca", pg: "pg-good-ca"}[s]
		d := dependOn(t, s, w, name)
		d.slack = besideOthers
		s.signal(syscall.SIGSTOP)
		d.down(time.Now(), "paused", "timed out")
		s.signal(syscall.SIGCONT)
		d.up("after the pause")
	}
	w.stop()
	noSecret(t, w)
}
