// Package sql asks databases: queries must succeed, and where strings are
// given the rows of each must hold all of them.
//
// MySQL and MariaDB are reached by go-sql-driver/mysql, PostgreSQL by lib/pq.
// A [DB] keeps at most one connection, makes a new one when it is gone, and is
// bound by its caller's deadline in all that it does. A query that is still running
// then is given up by PostgreSQL; MySQL runs it to its end. Neither the data source
// name nor a password in it is part of any error.
package sql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

// The drivers.
const (
	MySQL    = "mysql" // MariaDB too
	Postgres = "postgres"
)

const (
	maxRows  = 100_000 // that are looked at for the strings of one query
	maxBytes = 8 << 20 // of them

	maxMoment = 200 * time.Millisecond // for a server to give up a query
)

// A Source says where a database is: the name of its driver, and a data source
// name in that driver's form. It is asked before each use, so that a process
// that is started again with another environment has its own database asked.
type Source func() (driver, dsn string, err error)

// DB is a database with one kept connection. Its zero value is not usable.
type DB struct {
	source Source

	mu          sync.Mutex // held while a query runs: one connection, one query
	pool        *sql.DB
	driver, dsn string // of pool
	password    string
	dial        dialer
}

// Open returns a database that is not connected yet.
func Open(source Source) *DB { return &DB{source: source} }

// Close ends the kept connection. A later use makes a new one.
func (d *DB) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closePool()
}

func (d *DB) closePool() error {
	if d.pool == nil {
		return nil
	}
	pool := d.pool
	d.pool, d.dsn, d.driver, d.password = nil, "", "", ""
	return pool.Close()
}

// Probe passes when each query succeeds and, where contains has strings, each
// is in some column of some row of each query. NULL holds nothing.
func (d *DB) Probe(queries, contains []string) probe.Probe {
	return probe.Func(func(ctx context.Context) error {
		return d.each(ctx, queries, contains)
	})
}

// Run runs queries in order, until one fails or ctx ends.
func (d *DB) Run(ctx context.Context, queries []string) error {
	return d.each(ctx, queries, nil)
}

func (d *DB) each(ctx context.Context, queries, contains []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	start := time.Now()
	if err := d.open(); err != nil {
		return err
	}
	defer d.dial.bind(ctx)()
	soft, cancel := soften(ctx)
	defer cancel()
	for i, q := range queries {
		doing := fmt.Sprintf("run query %d of %d on %s", i+1, len(queries), d.driver)
		missing, err := d.query(soft, q, contains)
		switch {
		case err != nil:
			ended := soft
			if ctx.Err() != nil {
				ended = ctx // its end breaks the connection, perhaps before soft has ended with it
			}
			return probe.Broken(ended, doing, d.redact(reason(err)), start, err)
		case missing != "":
			return probe.Failed(fmt.Sprintf("%s: no row holds %q", doing, probe.Excerpt(missing, 80)))
		}
	}
	return nil
}

// soften returns a context that ends a moment before ctx: lib/pq uses it to tell
// the server to give up the query, which would run on there.
func soften(ctx context.Context) (context.Context, context.CancelFunc) {
	d, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, d.Add(-min(time.Until(d)/10, maxMoment)))
}

// open makes the pool, anew where the source has changed.
func (d *DB) open() error {
	name, dsn, err := d.source()
	if err != nil {
		return probe.Failed(err.Error())
	}
	if d.pool != nil && d.driver == name && d.dsn == dsn {
		return nil
	}
	_ = d.closePool() // of a database that is not asked any more
	c, password, err := connector(name, dsn, &d.dial)
	if err != nil {
		return probe.Failed(err.Error())
	}
	d.driver, d.dsn, d.password = name, dsn, password
	d.pool = sql.OpenDB(c)
	d.pool.SetMaxOpenConns(1)
	d.pool.SetMaxIdleConns(1)
	return nil
}

// query runs one query, and returns a string that no row holds, or "".
func (d *DB) query(ctx context.Context, q string, contains []string) (missing string, err error) {
	// What is not read to its end makes the connection unusable: its context
	// ends first, so that closing the rows does not wait for the rest.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := d.pool.QueryContext(ctx, q)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	look := finder{left: contains}
	for more := true; more; more = rows.NextResultSet() {
		done, err := look.through(rows)
		if err != nil {
			return "", err
		}
		if done {
			cancel()
			break
		}
	}
	if err := rows.Err(); err != nil && !(look.over() && errors.Is(err, context.Canceled)) {
		return "", err
	}
	if len(look.left) > 0 {
		return look.left[0], nil
	}
	return "", nil
}

// finder looks for strings in rows.
type finder struct {
	left        []string // not found yet; shared with others until one is found
	rows, bytes int
	cols        []sql.RawBytes
	into        []any
}

// over says that no more rows are looked at.
func (f *finder) over() bool { return f.rows >= maxRows || f.bytes >= maxBytes }

// through looks at the rows of one result set; done says that it has seen
// enough of all.
func (f *finder) through(rows *sql.Rows) (done bool, err error) {
	names, err := rows.Columns()
	if err != nil {
		return false, err
	}
	f.cols, f.into = make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range f.cols {
		f.into[i] = &f.cols[i]
	}
	for rows.Next() {
		if err := rows.Scan(f.into...); err != nil {
			return false, err
		}
		f.row()
		if f.over() {
			return true, nil
		}
	}
	return false, rows.Err()
}

func (f *finder) row() {
	f.rows++
	for _, c := range f.cols {
		f.bytes += len(c)
		f.left = without(f.left, c)
	}
}

// without returns the strings that are not in text. It does not change left.
func without(left []string, text []byte) []string {
	for i, s := range left {
		if bytes.Contains(text, []byte(s)) {
			rest := append([]string(nil), left[:i]...)
			return append(rest, without(left[i+1:], text)...)
		}
	}
	return left
}

// redact takes the password out of a text.
func (d *DB) redact(text string) string {
	if d.password == "" {
		return text
	}
	return strings.ReplaceAll(text, d.password, "xxxxx")
}

// Guess returns the driver that a data source name is for, by its form.
func Guess(dsn string) string {
	scheme, _, url := strings.Cut(dsn, "://")
	if url && (scheme == "postgres" || scheme == "postgresql") {
		return Postgres
	}
	// key=value pairs come before any / of MySQL's user:password@net(addr)/db.
	key, _, pair := strings.Cut(dsn, "=")
	if pair && key != "" && !strings.ContainsAny(strings.TrimSpace(key), "/@:() ") {
		return Postgres
	}
	return MySQL
}
