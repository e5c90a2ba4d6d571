package spec

import "time"

// Readiness are the checks of a process. Any number of them may be there; all
// must be good. None: ready once started and the hook is done.
type Readiness struct {
	Delay            time.Duration
	Period           time.Duration
	FailureThreshold int
	StartupDeadline  time.Duration // un-ready for longer than this turns /liveness bad

	HTTP        *HTTPCheck
	TCP         *TCPCheck
	File        *FileCheck
	Env         *EnvCheck
	Exec        *Exec
	SQL         *SQLCheck
	FloatingPID *FloatingPID
	HeartBeat   *HeartBeat
	AMQP        *AMQPCheck
	Lock        *Lock
}

// HTTPCheck is good when a GET of URL answers 2xx or 3xx.
type HTTPCheck struct {
	URL     string
	Timeout time.Duration
}

// TCPCheck is good when Socket accepts.
type TCPCheck struct {
	Socket  string // host:port
	Timeout time.Duration
}

// FileCheck is good while Path exists.
type FileCheck struct {
	Path    string
	Timeout time.Duration
}

// EnvCheck is good while a variable of the process's environment has a value.
type EnvCheck struct{ Name, Value string }

// The drivers of databases.
const (
	DriverMySQL    = "mysql" // MariaDB too
	DriverPostgres = "postgres"
)

// SQLCheck is good when each query's rows hold every string of Contains.
type SQLCheck struct {
	Queries, Contains []string
	Driver            string // "": as DSN looks
	DSN               string // not expanded; "": the driver's variable
	Timeout           time.Duration
}

// FloatingPID is good with at most Threshold starts within Period.
type FloatingPID struct {
	Period    time.Duration
	Threshold int
}

// HeartBeat is good when a beat came within Period.
type HeartBeat struct{ Period time.Duration }

// AMQPCheck is good when the broker answers.
type AMQPCheck struct {
	ReuseConn bool
	Timeout   time.Duration
}

// Lock is held for the whole life of a process.
type Lock struct {
	Key          string // the process's name by default
	TTL          time.Duration
	StandbyReady bool
}

// Probe is a probe of Kubernetes. Exactly one handler is there.
type Probe struct {
	Exec      *Exec
	HTTPGet   *HTTPGet
	TCPSocket *TCPSocket
	GRPC      *GRPC

	InitialDelay           time.Duration
	Period                 time.Duration
	Timeout                time.Duration
	SuccessThreshold       int
	FailureThreshold       int
	TerminationGracePeriod *time.Duration // nil: the process's
}

// Handler is a hook of Kubernetes. Exactly one field is there.
type Handler struct {
	Exec      *Exec
	HTTPGet   *HTTPGet
	TCPSocket *TCPSocket
	Sleep     *Sleep
}

// Sleep is a pause.
type Sleep struct{ Duration time.Duration }

// HTTPGet is a request.
type HTTPGet struct {
	Scheme  string // http or https
	Host    string // 127.0.0.1 by default
	Port    int
	Path    string // with its query, and a leading slash
	Headers []Header
}

// Header is a header of a request. It may be there more than once.
type Header struct{ Name, Value string }

// TCPSocket is a port that must accept.
type TCPSocket struct {
	Host string
	Port int
}

// GRPC is a port that serves grpc.health.v1.
type GRPC struct {
	Port    int
	Service string
}
