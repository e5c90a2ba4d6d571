package spec

import (
	"cmp"
	"time"
)

// readiness is the block as it is written.
type readiness struct {
	Readiness
	timeout time.Duration
}

func readinessObject() *object[readiness] {
	return &object[readiness]{
		name: "readiness", doc: "Checks of a process; any number of kinds, all must be good.",
		fields: append([]field[readiness]{
			keyOr("delay", "Pause between the start and the first check.", duration(0), 5*time.Second, func(r *readiness) *time.Duration { return &r.Delay }),
			keyOr("period", "Pause between two rounds of checks.", duration(time.Millisecond), 5*time.Second, func(r *readiness) *time.Duration { return &r.Period }),
			keyOr("failureThreshold", "So many failures in a row restart the process.", integer(1, 1_000_000), 3, func(r *readiness) *int { return &r.FailureThreshold }),
			key("startupDeadline", "Un-ready for longer turns /liveness bad; delay + period × failureThreshold by default, and as long as the startupProbe may take on top.", duration(time.Millisecond), func(r *readiness) *time.Duration { return &r.StartupDeadline }),
			key("timeout", "Of each check; by default tcp 2s, exec 30s, others one period, at most 30s.", duration(time.Millisecond), func(r *readiness) *time.Duration { return &r.timeout }),
		}, checkFields()...),
		hints: map[string]string{"httpget": "http", "tcpsocket": "tcp", "initialdelayseconds": "delay", "periodseconds": "period", "timeoutseconds": "timeout", "interval": "period"},
	}
}

func checkFields() []field[readiness] {
	http := &object[HTTPCheck]{name: "http", doc: "A GET.", fields: []field[HTTPCheck]{
		key("url", "Answers 2xx or 3xx.", webURL(), func(c *HTTPCheck) *string { return &c.URL }).require(),
	}}
	tcp := &object[TCPCheck]{name: "tcp", doc: "A connection.", fields: []field[TCPCheck]{
		key("socket", "host:port that accepts.", socket(), func(c *TCPCheck) *string { return &c.Socket }).require(),
	}}
	file := &object[FileCheck]{name: "file", doc: "A file.", fields: []field[FileCheck]{
		key("path", "Exists.", filled("path"), func(c *FileCheck) *string { return &c.Path }).require(),
	}}
	env := &object[EnvCheck]{name: "envCheck", doc: "A variable of the process's environment.", fields: []field[EnvCheck]{
		key("name", "Name of the variable.", varName(), func(c *EnvCheck) *string { return &c.Name }).require(),
		key("value", "Its value.", text(), func(c *EnvCheck) *string { return &c.Value }).require(),
	}}
	exec := &object[execCheck]{name: "exec", doc: "A command.", fields: []field[execCheck]{
		key("command", "Exits 0.", ownCommand(), func(c *execCheck) **Exec { return &c.command }).require(),
	}}
	return append([]field[readiness]{
		block("http", "A GET that must answer 2xx or 3xx.", http, func(r *readiness) **HTTPCheck { return &r.HTTP }),
		block("tcp", "A socket that must accept.", tcp, func(r *readiness) **TCPCheck { return &r.TCP }),
		block("file", "A file that must exist.", file, func(r *readiness) **FileCheck { return &r.File }),
		block("env", "A variable that must have a value.", env, func(r *readiness) **EnvCheck { return &r.Env }),
		{
			key: "exec", doc: "A command that must exit 0.", typ: "map", form: exec.ref, rows: exec.rows,
			read: func(d *decoder, a *at, r *readiness) {
				if c, ok := exec.kind().read(d, a); ok {
					r.Exec = c.command
				}
			},
		},
	}, laterFields()...)
}

type execCheck struct{ command *Exec }

// laterFields are the checks that need a driver or another of our services.
func laterFields() []field[readiness] {
	sql := &object[SQLCheck]{name: "sql", doc: "Queries, with MYSQL_DSN or POSTGRES_DSN.", fields: []field[SQLCheck]{
		key("queries", "Queries that must succeed.", some(filled("query")), func(c *SQLCheck) *[]string { return &c.Queries }).require(),
		key("contains", "Strings that the rows of each query must hold.", list(text()), func(c *SQLCheck) *[]string { return &c.Contains }),
	}}
	floating := &object[FloatingPID]{name: "floatingPid", doc: "Bound of starts.", fields: []field[FloatingPID]{
		keyOr("period", "Time that is looked at.", duration(time.Millisecond), 10*time.Second, func(c *FloatingPID) *time.Duration { return &c.Period }),
		keyOr("threshold", "So many starts are good.", integer(1, 1_000_000), 1, func(c *FloatingPID) *int { return &c.Threshold }),
	}}
	beat := &object[HeartBeat]{name: "heartBeat", doc: "PATCH /heartbeat?name=.", fields: []field[HeartBeat]{
		keyOr("period", "A beat must come within this time.", duration(time.Millisecond), 10*time.Second, func(c *HeartBeat) *time.Duration { return &c.Period }),
	}}
	amqp := &object[AMQPCheck]{name: "amqp", doc: "A connection to the broker of AMQP_PROBE_RABBITMQ_DSN_TEMPLATE.", fields: []field[AMQPCheck]{
		keyOr("reuseConn", "Keep one connection for all checks.", boolean(), false, func(c *AMQPCheck) *bool { return &c.ReuseConn }),
	}}
	lock := &object[Lock]{name: "lock", doc: "A lock of shared-lock: the process runs only while it holds it.", fields: []field[Lock]{
		keyOr("ttlDuration", "Life of the lease.", duration(time.Millisecond), 2*time.Second, func(c *Lock) *time.Duration { return &c.TTL }),
		key("key", "Name of the lock; the process's name by default.", filled("key"), func(c *Lock) *string { return &c.Key }),
		keyOr("standbyReady", "Waiting for the lock counts as ready.", boolean(), false, func(c *Lock) *bool { return &c.StandbyReady }),
	}}
	return []field[readiness]{
		block("sql", "Queries that must succeed.", sql, func(r *readiness) **SQLCheck { return &r.SQL }),
		block("floatingPid", "At most threshold starts within period.", floating, func(r *readiness) **FloatingPID { return &r.FloatingPID }),
		block("heartBeat", "A beat must come within period.", beat, func(r *readiness) **HeartBeat { return &r.HeartBeat }),
		block("amqp", "The broker must answer.", amqp, func(r *readiness) **AMQPCheck { return &r.AMQP }),
		block("lock", "Run only while holding the shared lock.", lock, func(r *readiness) **Lock { return &r.Lock }),
	}
}

// finishReadiness applies the defaults that depend on other keys.
func (e *entry) finishReadiness() {
	r := e.readiness
	const most = 30 * time.Second
	period := cmp.Or(r.timeout, min(r.Period, most))
	if r.HTTP != nil {
		r.HTTP.Timeout = period
	}
	if r.TCP != nil {
		r.TCP.Timeout = cmp.Or(r.timeout, 2*time.Second)
	}
	if r.File != nil {
		r.File.Timeout = period
	}
	if r.Exec != nil {
		r.Exec.Timeout = cmp.Or(r.timeout, most)
	}
	if r.SQL != nil {
		r.SQL.Timeout = period
	}
	if r.AMQP != nil {
		r.AMQP.Timeout = period
	}
	if r.StartupDeadline == 0 {
		r.StartupDeadline = r.Delay + times(r.Period, r.FailureThreshold)
		if p := e.StartupProbe; p != nil {
			r.StartupDeadline += p.InitialDelay + times(p.Period, p.FailureThreshold)
		}
		r.StartupDeadline = min(r.StartupDeadline, maxDuration)
	}
	e.Readiness = r.Readiness
}

// times is v × n, at most maxDuration.
func times(v time.Duration, n int) time.Duration {
	if v > maxDuration/time.Duration(n) {
		return maxDuration
	}
	return v * time.Duration(n)
}
