package wrapper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/probe/amqp"
	"github.com/process-wrapper/process-wrapper/pkg/probe/grpc"
	"github.com/process-wrapper/process-wrapper/pkg/probe/sql"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// The variables that say where servers are, and what holds without them.
const (
	envMySQL    = "MYSQL_DSN"
	envPostgres = "POSTGRES_DSN"

	envAMQP     = "AMQP_PROBE_RABBITMQ_DSN_TEMPLATE"
	envAMQPUser = "AMQP_PROBE_RABBITMQ_USER"
	envAMQPPass = "AMQP_PROBE_RABBITMQ_PASS"

	defaultAMQP     = "amqp://%v:%v@localhost:5673"
	defaultAMQPUser = "guest"
)

// lookup finds a variable.
type lookup func(name string) (string, bool)

// or returns the value of a variable that is not empty, else what holds without.
func (l lookup) or(name, fallback string) string {
	if v, ok := l(name); ok && v != "" {
		return v
	}
	return fallback
}

func (k *checks) sql(c *spec.SQLCheck) probe.Probe {
	k.s.keepEnv = true
	db := sql.Open(database(c.Driver, c.DSN, k.s.lookup))
	k.closers = append(k.closers, db)
	return db.Probe(c.Queries, c.Contains)
}

// queries is a hook that runs queries, over a connection for this one time.
func (k *checks) queries(h *spec.SQLHook, envs []spec.EnvVar) process.Hook {
	return func(ctx context.Context) error {
		own := spec.AddEnv(k.s.environment(), envs)
		db := sql.Open(database(h.Driver, h.DSN, func(name string) (string, bool) { return lookupEnv(own, name) }))
		return errors.Join(db.Run(ctx, h.Queries), db.Close())
	}
}

// database says where a database is: as the config says, else as the variables do.
func database(driver, dsn string, look lookup) sql.Source {
	return func() (string, string, error) {
		if dsn != "" {
			dsn := spec.Expand(dsn, look)
			if driver == "" {
				return sql.Guess(dsn), dsn, nil
			}
			return driver, dsn, nil
		}
		my, pg := look.or(envMySQL, ""), look.or(envPostgres, "")
		switch {
		case driver == sql.MySQL && my != "", driver == "" && pg == "" && my != "":
			return sql.MySQL, my, nil
		case driver == sql.Postgres && pg != "", driver == "" && my == "" && pg != "":
			return sql.Postgres, pg, nil
		case driver == sql.MySQL:
			return "", "", fmt.Errorf("%s is not set, and sql has no dsn", envMySQL)
		case driver == sql.Postgres:
			return "", "", fmt.Errorf("%s is not set, and sql has no dsn", envPostgres)
		case my != "":
			return "", "", fmt.Errorf("%s and %s are both set: say in sql.driver which is meant", envMySQL, envPostgres)
		}
		return "", "", fmt.Errorf("neither %s nor %s is set, and sql has no dsn", envMySQL, envPostgres)
	}
}

func (k *checks) amqp(c *spec.AMQPCheck) probe.Probe {
	k.s.keepEnv = true
	look := lookup(k.s.lookup)
	p := amqp.New(amqp.Config{
		Reuse: c.ReuseConn,
		Name:  "process-wrapper probe of " + k.s.p.Name,
		Source: func() (string, error) {
			return amqp.URL(look.or(envAMQP, defaultAMQP), look.or(envAMQPUser, defaultAMQPUser), look.or(envAMQPPass, defaultAMQPUser))
		},
	})
	k.closers = append(k.closers, p)
	return p
}

func (k *checks) grpc(g *spec.GRPC) probe.Probe {
	return grpc.Health(grpc.Config{
		Addr: net.JoinHostPort("localhost", strconv.Itoa(g.Port)), Service: g.Service, Version: cli.ReadBuild().Version,
	})
}

func (k *checks) heartBeat(c *spec.HeartBeat) probe.Probe {
	name := k.s.p.Name
	return probe.HeartBeat(func() (time.Time, bool) { return k.s.beats.Last(name) }, c.Period)
}

func (k *checks) floatingPID(c *spec.FloatingPID) probe.Probe {
	k.s.starts = &starts{most: c.Threshold + 1}
	return probe.FloatingPID(k.s.starts.since, c.Period, c.Threshold)
}

// starts remembers when a process was started last.
type starts struct {
	most int // that are worth remembering

	mu sync.Mutex // guards at
	at []time.Time
}

// note takes note of a start.
func (s *starts) note(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.at) == s.most {
		s.at = slices.Delete(s.at, 0, 1)
	}
	s.at = append(s.at, t)
}

// since counts the starts after t, as far as they are remembered.
func (s *starts) since(t time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, at := range s.at {
		if at.After(t) {
			n++
		}
	}
	return n
}

// adopt takes over the starts that another remembers.
func (s *starts) adopt(old *starts) {
	old.mu.Lock()
	at := slices.Clone(old.at)
	old.mu.Unlock()
	for _, t := range at {
		s.note(t)
	}
}
