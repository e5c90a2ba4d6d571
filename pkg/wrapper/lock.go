package wrapper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/lease"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

const (
	maxLockKey = 512     // bytes
	maxCA      = 1 << 20 // bytes of the file
)

// locks are those of all processes. To the server they are one session.
type locks struct {
	client *lease.Client
	log    *slog.Logger
	host   string
	pod    string

	mu  sync.Mutex // guards what follows
	all map[string]*lock
}

// lock is that of one process. It satisfies process.Guard.
type lock struct {
	*lease.Guard
	name string
	all  *locks
}

func newLocks(f *flags, env *environment, log *slog.Logger) (*locks, error) {
	t, err := lockTLS(env)
	if err != nil {
		return nil, cli.Usagef("%w", err)
	}
	client, err := lease.New(lease.Config{URLs: strings.Split(f.SharedLockURL, ","), TokenFile: env.lockToken, TLS: t})
	if err != nil {
		return nil, cli.Usagef("-shared-lock-url: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is shown to people, or not
	}
	return &locks{client: client, log: log, host: host, pod: env.podName, all: make(map[string]*lock)}, nil
}

// lockTLS is how the server is spoken to where its URL begins with https.
func lockTLS(env *environment) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if env.lockCA != "" {
		text, err := readUpTo(env.lockCA, maxCA)
		if err != nil {
			return nil, fmt.Errorf("SHARED_LOCK_CA_CERT: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("SHARED_LOCK_CA_CERT: there is no certificate in %s", env.lockCA)
		}
	}
	if env.lockCert == "" && env.lockKey == "" {
		return c, nil
	}
	if env.lockCert == "" || env.lockKey == "" {
		return nil, errors.New("set both SHARED_LOCK_CLIENT_CERT and SHARED_LOCK_CLIENT_KEY, or none")
	}
	if _, err := tls.LoadX509KeyPair(env.lockCert, env.lockKey); err != nil {
		return nil, fmt.Errorf("SHARED_LOCK_CLIENT_CERT: %w", err)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // read anew: it is rotated
		pair, err := tls.LoadX509KeyPair(env.lockCert, env.lockKey)
		return &pair, err
	}
	return c, nil
}

// of returns the lock of a process.
func (l *locks) of(p *spec.Process, environ []string) (*lock, error) {
	c := p.Readiness.Lock
	env := environ
	if refers(c.Key) {
		var err error
		if env, err = p.Environ(environ, nil); err != nil {
			env = environ // its start will tell
		}
	}
	key := spec.Expand(c.Key, func(name string) (string, bool) { return lookupEnv(env, name) })
	if key == "" || len(key) > maxLockKey || !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl) {
		return nil, fmt.Errorf("readiness.lock.key %q is no name of a lock: 1 to %d bytes without control characters", key, maxLockKey)
	}
	guard := lease.NewGuard(l.client, lease.Request{
		Key: key, TTL: c.TTL, Owner: p.Name, Host: l.host, Pod: l.pod, Labels: p.Labels,
	}, l.log.With("name", p.Name))
	k := &lock{Guard: guard, name: p.Name, all: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[p.Name] == nil {
		l.all[p.Name] = k
	}
	return k, nil
}

// refers says whether a key has variables, which may come from files.
func refers(key string) bool { return strings.Contains(key, "$(") }

// keyFiles are the files that are read for keys of locks.
func keyFiles(cfg *spec.Config) []string {
	var all []string
	for _, p := range cfg.Processes {
		if l := p.Readiness.Lock; l != nil && refers(l.Key) {
			all = append(all, p.Env.Paths()...)
		}
	}
	return all
}

// Acquire waits until the lock is held.
func (k *lock) Acquire(ctx context.Context, say func(string)) error {
	k.all.mu.Lock()
	k.all.all[k.name] = k // of those that changes of the config made it is the present one
	k.all.mu.Unlock()
	return k.Guard.Acquire(ctx, say)
}

// environ is what the process is told of its lock.
func (k *lock) environ() []spec.EnvVar {
	st := k.Stats()
	return []spec.EnvVar{
		{Name: "SHARED_LOCK_KEY", Value: st.Key},
		{Name: "SHARED_LOCK_TOKEN", Value: strconv.FormatInt(st.Token, 10)},
	}
}

func (l *locks) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, name)
}

// stats returns what is known of each lock, by process.
func (l *locks) stats() map[string]lease.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]lease.Stats, len(l.all))
	for name, k := range l.all {
		all[name] = k.Stats()
	}
	return all
}

// close ends the session. Nothing runs any more that needs a lock.
func (l *locks) close(ctx context.Context) {
	if err := l.client.Close(context.WithoutCancel(ctx)); err != nil {
		l.log.Debug("the session of shared-lock was not ended, its time will", "err", err)
	}
}

// lockOf is what the API shows of the lock of a process.
func (p *pod) lockOf(name string) (api.Lock, bool) {
	p.locks.mu.Lock()
	k := p.locks.all[name]
	p.locks.mu.Unlock()
	if k == nil {
		return api.Lock{}, false
	}
	st := k.Stats()
	shown := api.Lock{Key: st.Key, Held: st.Held, Lost: st.Gone + st.Late}
	if st.Held {
		since := st.Since.Round(time.Millisecond)
		shown.Token, shown.Since = &st.Token, &since
	}
	return shown, true
}

// readUpTo reads a file that is not longer than it should be.
func readUpTo(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
