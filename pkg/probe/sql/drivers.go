package sql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

// connector makes what connects, and returns the password that it uses. Its
// errors say nothing of dsn, which may hold one: the drivers' own would quote it.
func connector(name, dsn string, dial *dialer) (c driver.Connector, password string, err error) {
	defer func() {
		if recover() != nil { // mysql's, at an option that it had once
			c, err = nil, fmt.Errorf("the data source name of %s has an option that the driver does not know any more", name)
		}
	}()
	switch name {
	case MySQL:
		return mysqlConnector(dsn, dial)
	case Postgres:
		return postgresConnector(dsn, dial)
	}
	return nil, "", fmt.Errorf("unknown driver %q: wants mysql or postgres", probe.Excerpt(name, 40))
}

func mysqlConnector(dsn string, dial *dialer) (driver.Connector, string, error) {
	cfg, err := mysql.ParseDSN(slashes(dsn))
	if err != nil {
		return nil, "", errors.New("the data source name of mysql is not of the form user:password@tcp(host:port)/database")
	}
	if err := certificates(cfg); err != nil {
		return nil, "", err
	}
	cfg.Logger = &mysql.NopLogger{}
	cfg.DialFunc = dial.DialContext
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, "", errors.New("the data source name of mysql has an option that the driver refuses")
	}
	return c, cfg.Passwd, nil
}

func postgresConnector(dsn string, dial *dialer) (driver.Connector, string, error) {
	cfg, err := pq.NewConfig(dsn)
	if err != nil {
		return nil, "", errors.New("the data source name of postgres is not of the form postgres://user:password@host:port/database or host=… user=… dbname=…")
	}
	c, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, "", errors.New("the data source name of postgres has an option that the driver refuses")
	}
	c.Dialer(dial)
	return c, cfg.Password, nil
}

// reason is what a server or a driver says, or "" for what the network does.
func reason(err error) string {
	var my *mysql.MySQLError
	var pg *pq.Error
	switch {
	case errors.As(err, &my):
		return probe.Excerpt(my.Error(), 200)
	case errors.As(err, &pg):
		return probe.Excerpt(pg.Error(), 200)
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn):
		return "the connection broke"
	}
	return ""
}

// A dialer connects, and keeps what it made so that it can be ended: neither a
// handshake of lib/pq nor a query on a server that is stuck honours a context.
type dialer struct {
	mu    sync.Mutex // guards the rest
	over  bool       // nothing may be dialled
	conns map[*tracked]struct{}
}

// tracked is a connection that its dialer knows until it is closed.
type tracked struct {
	net.Conn
	from *dialer
}

// Close closes the connection.
func (t *tracked) Close() error {
	t.from.mu.Lock()
	delete(t.from.conns, t)
	t.from.mu.Unlock()
	return t.Conn.Close()
}

// SyscallConn lets mysql see, before it asks on a connection, that the server has
// ended it meanwhile: it makes a new one then, else the check would fail.
func (t *tracked) SyscallConn() (syscall.RawConn, error) {
	if c, ok := t.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

var errOver = errors.New("the time of the check is over")

// DialContext connects.
func (d *dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	t := &tracked{conn, d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		conn.Close()
		return nil, errOver
	}
	if d.conns == nil {
		d.conns = make(map[*tracked]struct{})
	}
	d.conns[t] = struct{}{}
	return t, nil
}

// Dial connects; lib/pq wants it and calls DialContext.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialTimeout connects; lib/pq wants it and calls DialContext.
func (d *dialer) DialTimeout(network, addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, addr)
}

// bind breaks all connections when ctx ends, until the function that it returns
// is called.
func (d *dialer) bind(ctx context.Context) (release func()) {
	d.mu.Lock()
	d.over = false
	d.mu.Unlock()
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.over = true
		for t := range d.conns {
			_ = t.Conn.SetDeadline(time.Unix(1, 0)) // whoever uses it closes it
		}
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}
