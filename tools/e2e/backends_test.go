package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// backend is a database or broker on a loopback port, that can be stopped in all ways and started
// again with its data.
type backend struct {
	t     *testing.T
	name  string
	port  int
	argv  []string
	env   []string
	owner *syscall.Credential // nil: as the test
	ready *regexp.Regexp      // in its output
	dir   string

	cmd    *exec.Cmd
	output *transcript
}

// begin starts the service, and waits until it serves.
func (s *backend) begin() {
	s.t.Helper()
	s.output = newTranscript()
	s.cmd = exec.Command(s.argv[0], s.argv[1:]...)
	s.cmd.Dir, s.cmd.Env = s.dir, append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.WaitDelay = s.output, s.output, patience
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", s.name, err)
	}
	s.output.waitLong(s.t, s.ready, 4*patience) // RabbitMQ takes 7 s where nothing else runs
}

// signal sends a signal to all its processes, of which some may be in groups of their own.
func (s *backend) signal(sig syscall.Signal) {
	s.t.Helper()
	all := append([]process{{pid: s.cmd.Process.Pid}}, descendants(s.t, s.cmd.Process.Pid)...)
	for _, p := range all {
		if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatalf("signal %s: %v", s.name, err)
		}
	}
}

// kill ends it at once, with all its processes.
func (s *backend) kill() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP) // so that none starts another meanwhile
	s.signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // it was killed
}

// end ends it with the test.
func (s *backend) end() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	if s.cmd.ProcessState == nil {
		s.kill()
	}
	if s.t.Failed() {
		text := s.output.String()
		s.t.Logf("%s:\n%s", s.name, text[max(0, len(text)-2000):])
	}
}

func newBackend(t *testing.T, name, ready string) *backend {
	t.Helper()
	s := &backend{t: t, name: name, ready: regexp.MustCompile(ready), dir: t.TempDir(), port: freePort(t)}
	t.Cleanup(s.end)
	return s
}

// belongTo makes the service run as one of Debian's users, who cannot enter the directories of
// tests by default.
func (s *backend) belongTo(name string) {
	s.t.Helper()
	needsRoot(s.t)
	u, err := user.Lookup(name)
	if err != nil {
		skip(s.t, "needs the user of %s: %v", s.name, err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(s.dir, uid, gid); err != nil {
		s.t.Fatal(err)
	}
	for dir := filepath.Dir(s.dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

// run runs a command of the service's to its end.
func (s *backend) run(argv ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// connections counts the connections to the service that a process holds.
func (s *backend) connections(pid int) int {
	s.t.Helper()
	n := 0
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			s.t.Fatal(err)
		}
		// sl local remote state …; 01 is ESTABLISHED. All ends of this host are in the table: the
		// client's have the service as their remote.
		established := regexp.MustCompile(fmt.Sprintf(`(?m)^\s*\d+: \S+ [0-9A-F]+:%04X 01 (?:\S+ ){4}\s*\d+\s+\d+ (\d+)`, s.port))
		for _, m := range established.FindAllStringSubmatch(string(text), -1) {
			if slices.Contains(sockets(s.t, pid), m[1]) {
				n++
			}
		}
	}
	return n
}

// sockets returns the inodes of a process's sockets.
func sockets(t *testing.T, pid int) []string {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var inodes []string
	for _, link := range links {
		target, _ := os.Readlink(link) // it may be closed meanwhile
		if m := regexp.MustCompile(`^socket:\[(\d+)\]$`).FindStringSubmatch(target); m != nil {
			inodes = append(inodes, m[1])
		}
	}
	return inodes
}

// The ports for programs that have to be told theirs lie below those that the kernel gives to others, so that nobody is given
// one while its program starts, or starts again.
const lowestPort, numPorts = 20_000, 12_000

// firstPort is any of them, as other tests may run beside these; takenPorts counts from there.
var (
	firstPort  = rand.IntN(numPorts)
	takenPorts atomic.Int64
)

// freePort returns a loopback port that nobody listens on, to each caller another one.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := lowestPort + (firstPort+int(takenPorts.Add(1)))%numPorts
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// The account of the tests on all services.
const (
	serviceUser     = "prober"
	servicePassword = "s3cret@/x"
	otherPassword   = "an0ther-s3cret"
)

// startMariaDB starts a MariaDB with the database app; more are options of it.
func startMariaDB(t *testing.T, more ...string) *backend {
	t.Helper()
	needs(t, "mariadbd", "mariadb-install-db")
	s := newBackend(t, "mariadbd", `ready for connections`)
	data := filepath.Join(s.dir, "data")
	s.run("mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root")
	init := write(t, "init.sql", fmt.Sprintf(`CREATE DATABASE IF NOT EXISTS app;
CREATE OR REPLACE USER '%[1]s'@'%%' IDENTIFIED BY '%[2]s';
GRANT ALL ON app.* TO '%[1]s'@'%%';
CREATE TABLE IF NOT EXISTS app.states (id INT PRIMARY KEY, state VARCHAR(20), note VARCHAR(20));
REPLACE INTO app.states VALUES (1, 'up', NULL), (2, NULL, 'second'), (42, 'down', '');
`, serviceUser, servicePassword))
	s.argv = []string{
		"mariadbd", "--no-defaults", "--datadir=" + data, "--socket=" + filepath.Join(s.dir, "s"), "--port=" + strconv.Itoa(s.port),
		"--bind-address=127.0.0.1", "--user=root", "--init-file=" + init, "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0",
	}
	s.argv = append(s.argv, more...)
	s.begin()
	return s
}

// mysqlDSN is a data source name of go-sql-driver.
func (s *backend) mysqlDSN(password string) string {
	return fmt.Sprintf("%s:%s@tcp(127.0.0.1:%d)/app", serviceUser, password, s.port)
}

// mysqlPassword changes the password and ends the sessions that were begun with the old one.
func (s *backend) mysqlPassword(_, to string) {
	s.t.Helper()
	s.mysql(fmt.Sprintf("ALTER USER '%s'@'%%' IDENTIFIED BY '%s'", serviceUser, to))
	s.mysqlEnd()
}

// mysqlEnd ends all sessions of the tests' account.
func (s *backend) mysqlEnd() {
	s.t.Helper()
	s.mysql(fmt.Sprintf("KILL USER '%s'@'%%'", serviceUser))
}

func (s *backend) mysql(statement string) {
	s.t.Helper()
	s.run("mariadb", "--no-defaults", "--socket="+filepath.Join(s.dir, "s"), "--user=root", "--execute", statement)
}

// startPostgres starts a PostgreSQL with the database postgres.
func startPostgres(t *testing.T, settings ...string) *backend {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		skip(t, "needs postgresql")
	}
	programs := filepath.Dir(found[len(found)-1])
	s := newBackend(t, "postgres", `database system is ready to accept connections`)
	s.belongTo("postgres")
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(servicePassword+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(s.dir, "data")
	s.run(filepath.Join(programs, "initdb"), "--pgdata="+data, "--username="+serviceUser, "--auth=scram-sha-256", "--pwfile="+password, "--no-sync", "--encoding=UTF8")
	s.argv = []string{
		filepath.Join(programs, "postgres"), "-D", data, "-p", strconv.Itoa(s.port), "-F",
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "logging_collector=off",
	}
	for _, setting := range settings {
		s.argv = append(s.argv, "-c", setting)
		if key, ok := strings.CutPrefix(setting, "ssl_key_file="); ok { // which it wants to be its own
			if err := os.Chown(key, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.begin()
	return s
}

// postgresDSN is a data source name of lib/pq.
func (s *backend) postgresDSN(password string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password='%s' dbname=postgres sslmode=disable", s.port, serviceUser, password)
}

// postgresPassword changes the password and ends the sessions that were begun with the old one.
func (s *backend) postgresPassword(from, to string) {
	s.t.Helper()
	s.postgres(from, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", serviceUser, to), endSessions)
}

// postgresEnd ends all sessions of the tests' account.
func (s *backend) postgresEnd() { s.t.Helper(); s.postgres(servicePassword, endSessions) }

const endSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"

func (s *backend) postgres(password string, statements ...string) {
	s.t.Helper()
	args := []string{"psql", "--no-psqlrc", "--dbname", s.postgresDSN(password), "--set=ON_ERROR_STOP=1"}
	for _, statement := range statements {
		args = append(args, "--command", statement)
	}
	s.run(args...)
}

// startRabbitMQ starts a RabbitMQ with an epmd of its own.
func startRabbitMQ(t *testing.T, more ...string) *backend {
	t.Helper()
	const program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	needs(t, program, "epmd")
	s := newBackend(t, "rabbitmq", `Server startup complete`)
	s.belongTo("rabbitmq")
	epmd, plugins := strconv.Itoa(freePort(t)), filepath.Join(s.dir, "plugins")
	settings := filepath.Join(s.dir, "rabbitmq.conf")
	for file, text := range map[string]string{
		plugins:  "[].\n",
		settings: "default_user = " + serviceUser + "\ndefault_pass = " + servicePassword + "\n" + strings.Join(more, "\n") + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.env = []string{
		"HOME=" + s.dir, "RABBITMQ_MNESIA_BASE=" + filepath.Join(s.dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(s.dir, "log"),
		"RABBITMQ_LOGS=-", "RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins, "RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_CONFIG_FILE=" + settings,
		fmt.Sprintf("RABBITMQ_NODENAME=probed%d@localhost", s.port), "RABBITMQ_NODE_PORT=" + strconv.Itoa(s.port),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_DIST_PORT=" + strconv.Itoa(freePort(t)),
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=" + epmd,
	}
	t.Cleanup(func() { _ = exec.Command("epmd", "-port", epmd, "-kill").Run() }) // the broker leaves it behind
	s.argv = []string{program}
	s.begin()
	return s
}

// amqpTemplate is the template of its URL, without a virtual host.
func (s *backend) amqpTemplate() string { return fmt.Sprintf("amqp://%%v:%%v@127.0.0.1:%d", s.port) }

// amqpEnv is the environment of a wrapper whose probes ask it.
func (s *backend) amqpEnv() []string {
	return []string{"AMQP_PROBE_RABBITMQ_DSN_TEMPLATE=" + s.amqpTemplate(), "AMQP_PROBE_RABBITMQ_USER=" + serviceUser, "AMQP_PROBE_RABBITMQ_PASS=" + servicePassword}
}

// amqpPassword changes the password and ends the connections that were begun with the old one.
func (s *backend) amqpPassword(_, to string) {
	s.t.Helper()
	s.run(rabbitctl, "change_password", serviceUser, to)
	s.amqpEnd()
}

const rabbitctl = "/usr/lib/rabbitmq/bin/rabbitmqctl"

// amqpEnd ends all connections of the tests' account.
func (s *backend) amqpEnd() {
	s.t.Helper()
	s.run(rabbitctl, "close_all_user_connections", serviceUser, "an operator said so")
}
