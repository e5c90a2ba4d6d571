// Lockload is what the benchmark of shared-lock compares with and drives it by:
//
//	lockload classic -listen A -etcd B      a lock server as such are usually written
//	lockload drive -url U|-etcd B -mode M   clients that acquire or renew for a while; prints JSON
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// lifetime in seconds is so long that nothing ends while something else is measured.
const lifetime = 3600

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: lockload classic|drive …")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "classic":
		err = classic(os.Args[2:])
	case "drive":
		err = drive(os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// classic serves /lease with get, grant, txn and keepalive-once, and /keepalive with a new stream each.
func classic(args []string) error {
	fs := flag.NewFlagSet("classic", flag.ExitOnError)
	listen, etcd := fs.String("listen", "127.0.0.1:0", ""), fs.String("etcd", "", "")
	_ = fs.Parse(args)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{*etcd}, DialTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /lease", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		var l struct{ Key, Value string }
		if err != nil || json.Unmarshal(body, &l) != nil {
			http.Error(w, "bad body", http.StatusBadRequest)
			return
		}
		id, err := classicAcquire(r.Context(), c, "/classic/"+l.Key, string(body))
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case id == 0:
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, strconv.FormatInt(int64(id), 10))
		}
	})
	mux.HandleFunc("POST /keepalive", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64))
		id, _ := strconv.ParseInt(string(body), 10, 64)
		if _, err := c.KeepAliveOnce(r.Context(), clientv3.LeaseID(id)); err != nil {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	return (&http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}).ListenAndServe()
}

func classicAcquire(ctx context.Context, c *clientv3.Client, key, value string) (clientv3.LeaseID, error) {
	got, err := c.Get(ctx, key)
	if err != nil || len(got.Kvs) > 0 {
		return 0, err
	}
	lease, err := c.Grant(ctx, lifetime)
	if err != nil {
		return 0, err
	}
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(lease.ID))).Commit()
	if err != nil || !txn.Succeeded {
		return 0, err
	}
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	return lease.ID, err
}

// driver is one run of clients.
type driver struct {
	url, etcd, mode, key string
	clients, batch       int
	raw                  *clientv3.Client
	failed               atomic.Int64
}

func drive(args []string) error {
	d := &driver{}
	fs := flag.NewFlagSet("drive", flag.ExitOnError)
	fs.StringVar(&d.url, "url", "", "server")
	fs.StringVar(&d.etcd, "etcd", "", "etcd, for raw")
	fs.StringVar(&d.mode, "mode", "", "classic, own, session, raw; classic-renew, renew, raw-renew")
	fs.StringVar(&d.key, "key", "k", "what keys begin with")
	fs.IntVar(&d.clients, "clients", 1, "")
	fs.IntVar(&d.batch, "batch", 1, "keys of a renewal")
	seconds := fs.Float64("seconds", 2, "")
	_ = fs.Parse(args)
	if d.etcd != "" {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{d.etcd}, DialTimeout: 5 * time.Second})
		if err != nil {
			return err
		}
		d.raw = c
	}
	fmt.Println(d.run(time.Duration(*seconds * float64(time.Second))))
	return nil
}

// run drives clients, and returns what came of it as JSON.
func (d *driver) run(most time.Duration) string {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	var end time.Time
	all := make([][]time.Duration, d.clients)
	var ready sync.WaitGroup
	ready.Add(d.clients)
	for i := range d.clients {
		wg.Go(func() {
			op := d.client(i)
			ready.Done()
			<-begin
			for n := 0; time.Now().Before(end); n++ {
				start := time.Now()
				if err := op(n); err != nil {
					if d.failed.Add(1) == 1 {
						fmt.Fprintln(os.Stderr, err)
					}
					continue
				}
				all[i] = append(all[i], time.Since(start))
			}
		})
	}
	ready.Wait()
	fmt.Println("ready") // the CPU time is read at this line and at the next
	var line [1]byte
	_, _ = os.Stdin.Read(line[:])
	start := time.Now()
	end = start.Add(most)
	close(begin)
	wg.Wait()
	took := time.Since(start)
	times := slices.Concat(all...)
	slices.Sort(times)
	quantile := func(q float64) float64 {
		if len(times) == 0 {
			return 0
		}
		return times[int(q*float64(len(times)-1))].Seconds() * 1000
	}
	b, _ := json.Marshal(map[string]any{"ops": len(times), "seconds": took.Seconds(), "p50": quantile(.5), "p99": quantile(.99), "failed": d.failed.Load()})
	return string(b)
}

// client prepares one client and returns its operation.
func (d *driver) client(i int) func(n int) error {
	name := func(n int) string { return fmt.Sprintf("%s-%d-%d", d.key, i, n) }
	if d.mode == "raw" {
		return func(n int) error { return d.rawAcquire(name(n)) }
	}
	w, err := d.dial()
	if err != nil {
		return func(int) error { return err }
	}
	switch d.mode {
	case "classic":
		return func(n int) error {
			_, err := w.ask("POST", "/lease", `{"key":"`+name(n)+`","value":"v"}`, 201)
			return err
		}
	case "own", "session":
		extra := ""
		if d.mode == "session" {
			extra = fmt.Sprintf(`,"session":"%s-session-%012d"`, d.key, i)
		}
		return func(n int) error {
			_, err := w.ask("POST", "/v1/locks/"+name(n)+"/acquire", `{"owner":"bench","ttl":"1h"`+extra+`}`, 201)
			return err
		}
	case "classic-renew":
		id, err := w.ask("POST", "/lease", `{"key":"`+name(0)+`","value":"v"}`, 201)
		return func(int) error {
			if err != nil {
				return err
			}
			_, err := w.ask("POST", "/keepalive", id, 200)
			return err
		}
	}
	return d.renewer(w, name)
}

// renewer holds locks and renews them all in one request.
func (d *driver) renewer(w *wire, name func(int) string) func(int) error {
	type ref struct {
		Key   string `json:"key"`
		Token int64  `json:"token"`
	}
	var body struct {
		Locks []ref `json:"locks"`
	}
	var failed error
	session := ""
	if d.batch > 1 {
		session = `,"session":"` + name(0) + `-0123456789abcdef"`
	}
	for n := range d.batch {
		text, err := w.ask("POST", "/v1/locks/"+name(n)+"/acquire", `{"owner":"bench","ttl":"1h"`+session+`}`, 201)
		var got ref
		if err == nil {
			err = json.Unmarshal([]byte(text), &got)
		}
		if err != nil {
			failed = err
		}
		body.Locks = append(body.Locks, got)
	}
	path, text := "/v1/renew", []byte(nil)
	if d.batch == 1 {
		path = "/v1/locks/" + name(0) + "/renew"
		text = fmt.Appendf(nil, `{"token":%d}`, body.Locks[0].Token)
	} else {
		text, _ = json.Marshal(body)
	}
	return func(int) error {
		if failed != nil {
			return failed
		}
		answer, err := w.ask("PUT", path, string(text), 200)
		if err == nil && (strings.Contains(answer, `"gone"`) || strings.Contains(answer, `"unknown"`)) {
			err = fmt.Errorf("not renewed: %s", answer)
		}
		return err
	}
}

func (d *driver) rawAcquire(key string) error {
	ctx := context.Background()
	lease, err := d.raw.Grant(ctx, lifetime)
	if err != nil {
		return err
	}
	txn, err := d.raw.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, "v", clientv3.WithLease(lease.ID))).Commit()
	if err == nil && !txn.Succeeded {
		err = fmt.Errorf("%s exists", key)
	}
	return err
}

// wire is a connection of one client to the server. It does without net/http's client, whose CPU time
// would be most of what all clients together need.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	host string
	out  []byte
}

func (d *driver) dial() (*wire, error) {
	host := strings.TrimPrefix(d.url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReader(conn), host: host}, nil
}

func (w *wire) ask(method, path, body string, want int) (string, error) {
	w.out = append(append(append(append(append(w.out[:0], method...), ' '), path...), " HTTP/1.1\r\nHost: "...), w.host...)
	w.out = append(strconv.AppendInt(append(w.out, "\r\nContent-Length: "...), int64(len(body)), 10), "\r\n\r\n"...)
	w.out = append(w.out, body...)
	if _, err := w.conn.Write(w.out); err != nil {
		return "", err
	}
	status, length, err := w.head()
	if err != nil {
		return "", err
	}
	text := make([]byte, length)
	_, err = io.ReadFull(w.in, text)
	if err == nil && status != want {
		err = fmt.Errorf("%s %s: %d %s", method, path, status, text)
	}
	return string(text), err
}

// head reads a status line and headers, of which only the length of the body counts.
func (w *wire) head() (status, length int, err error) {
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, 0, fmt.Errorf("no status line: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	const name = "Content-Length: "
	for {
		if line, err = w.in.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		switch text := bytes.TrimSpace(line); {
		case len(text) == 0:
			return status, length, nil
		case bytes.HasPrefix(text, []byte(name)):
			if length, err = strconv.Atoi(string(text[len(name):])); err != nil {
				return 0, 0, err
			}
		case bytes.HasPrefix(text, []byte("Transfer-Encoding")):
			return 0, 0, fmt.Errorf("the answer has no length")
		}
	}
}
