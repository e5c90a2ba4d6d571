package wrapper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// ctl are the commands that talk to the control socket of another
// process-wrapper.
type ctl struct {
	Status struct {
		Names  []string `arg:"" optional:"" help:"processes; all by default"`
		Watch  bool     `short:"w" help:"again whenever something changes"`
		Output string   `short:"o" help:"text, json, or names alone" enum:"text,json,names" default:"text"`
	} `cmd:"" help:"a line for each process"`
	Start   doing `cmd:"" help:"start processes that do not run"`
	Stop    doing `cmd:"" help:"stop processes, until somebody starts them again"`
	Restart doing `cmd:"" help:"stop processes and start them again"`
	Signal  struct {
		Signal string   `arg:"" help:"such as HUP"`
		Names  []string `arg:"" help:"processes"`
		Output string   `short:"o" help:"text or json" enum:"text,json" default:"text"`
	} `cmd:"" help:"send a signal to the groups of processes"`
	Logs struct {
		Names  []string `arg:"" optional:"" help:"processes; all by default"`
		Follow bool     `short:"f" help:"go on with what comes"`
		Lines  int      `short:"n" help:"how many of the latest lines of each" default:"100"`
		Output string   `short:"o" help:"text, or json: an object for each line" enum:"text,json" default:"text"`
	} `cmd:"" help:"the latest lines of processes"`
	Events struct {
		Names  []string `arg:"" optional:"" help:"processes; all by default"`
		Follow bool     `short:"f" help:"go on with what comes"`
		Output string   `short:"o" help:"text or json" enum:"text,json" default:"text"`
	} `cmd:"" help:"what happened to processes"`
	Top struct {
		Output string `short:"o" help:"text, or json: all that is known, once" enum:"text,json" default:"text"`
	} `cmd:"" help:"all processes on a terminal, live, with keys to restart, stop and see logs"`
	Reload struct {
		Output string `short:"o" help:"text or json" enum:"text,json" default:"text"`
	} `cmd:"" help:"read the config again"`
}

// doing is what start, stop and restart have in common.
type doing struct {
	Names  []string      `arg:"" help:"processes; the name of replicas means all of them"`
	Within time.Duration `help:"how long to wait until it is done; 0s: not at all" default:"30s"`
	Output string        `short:"o" help:"text or json" enum:"text,json" default:"text"`
}

// run runs one of them.
func (c *ctl) run(ctx context.Context, call *cli.Call, socket, verb string) error {
	ctx, cancel := cli.SignalContext(ctx)
	defer cancel()
	k := newController(socket, call.Stdout)
	k.say = func(line string) { fmt.Fprintln(call.Stderr, "process-wrapper: "+line) } // for a person, not for a log
	defer k.client.CloseIdleConnections()
	err := c.dispatch(ctx, k, verb)
	var usage *cli.ExitError
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, syscall.EPIPE): // somebody has seen enough
		return nil
	case errors.As(err, &usage):
		return err
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		k.say(line)
	}
	return &cli.ExitError{Code: 1}
}

func (c *ctl) dispatch(ctx context.Context, k *controller, verb string) error {
	switch verb {
	case "status":
		return k.status(ctx, c.Status.Names, c.Status.Output, c.Status.Watch)
	case "top":
		if c.Top.Output == "json" {
			return k.status(ctx, nil, "json", false)
		}
		return k.top(ctx)
	case "start":
		return k.do(ctx, verb, &c.Start)
	case "stop":
		return k.do(ctx, verb, &c.Stop)
	case "restart":
		return k.do(ctx, verb, &c.Restart)
	case "signal":
		return k.each(ctx, c.Signal.Names, "signal?signal="+url.QueryEscape(c.Signal.Signal), "signalled", c.Signal.Output)
	case "logs":
		q := url.Values{"name": c.Logs.Names, "lines": {strconv.Itoa(c.Logs.Lines)}, "format": {c.Logs.Output}}
		if c.Logs.Follow {
			q.Set("follow", "1")
		}
		return k.logs(ctx, q)
	case "events":
		q := url.Values{"name": c.Events.Names}
		if c.Events.Follow {
			q.Set("follow", "1")
		}
		return k.stream(ctx, "/v1/events?"+q.Encode(), func(r io.Reader) error { return k.events(r, c.Events.Output) })
	}
	return k.reload(ctx, c.Reload.Output)
}

// controller talks to a control socket.
type controller struct {
	paths  []string
	client *http.Client
	out    io.Writer
	say    func(line string) // to a person, beside what is printed
	within time.Duration     // an answer comes that nothing has to be done for
}

// answerWithin is longer than a process-wrapper takes that is not stopped itself.
const answerWithin = 10 * time.Second

func newController(socket string, out io.Writer) *controller {
	k := &controller{paths: controlPaths(socket), out: out, within: answerWithin}
	k.client = &http.Client{Transport: &http.Transport{DialContext: k.dial, DisableCompression: true}}
	return k
}

// dial connects to the first socket that is there.
func (k *controller) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	var errs []error
	for _, path := range k.paths {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, unreachable(path, err))
	}
	return nil, errors.Join(errs...)
}

// unreachable says what is wrong with a socket, and what to do.
func unreachable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens on %s any more", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is for root and the user of process-wrapper: uid %d may not use it", path, os.Geteuid())
	}
	return fmt.Errorf("%s: %w", path, err)
}

// request asks for a path, and returns an answer that is good.
func (k *controller) request(ctx context.Context, method, path string) (*http.Response, error) {
	if len(k.paths) == 0 {
		return nil, cli.Usagef("-control-socket none is no socket to talk to")
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	var said *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("process-wrapper did not answer within %v: is it stopped, or its machine too busy?", k.within)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return nil, fmt.Errorf("process-wrapper closed the connection: the socket is for root and its own user, and this is uid %d", os.Geteuid())
	case errors.As(err, &said):
		return nil, fmt.Errorf("no process-wrapper answers: %w; -control-socket names its socket", said.Err)
	case err != nil:
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what came of it
	var problem struct{ Error string }
	if json.Unmarshal(text, &problem) == nil && problem.Error != "" {
		return nil, errors.New(problem.Error)
	}
	return nil, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
}

// maxReply bounds an answer that is read at once.
const maxReply = 64 << 20

// ask reads an answer, as JSON.
func (k *controller) ask(ctx context.Context, method, path string, into any) ([]byte, error) {
	if method == http.MethodGet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.within)
		defer cancel()
	}
	resp, err := k.request(ctx, method, path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, err
	}
	return text, json.Unmarshal(text, into)
}

// stream has an answer read as it comes.
func (k *controller) stream(ctx context.Context, path string, read func(io.Reader) error) error {
	resp, err := k.request(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return read(resp.Body)
}

// logs prints lines as they come. Who sees none is told whether there are any.
func (k *controller) logs(ctx context.Context, q url.Values) error {
	resp, err := k.request(ctx, http.MethodGet, "/v1/logs?"+q.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if silent := resp.Header["Silent"]; len(silent) > 0 {
		line := "nothing has been written yet"
		if len(q["name"]) > 0 {
			line = strings.Join(silent, ", ") + ": " + line
		}
		if q.Has("follow") {
			line += ", waiting for lines"
		}
		k.say(line)
	}
	_, err = io.Copy(k.out, resp.Body)
	return err
}

// do starts, stops or restarts processes.
func (k *controller) do(ctx context.Context, verb string, d *doing) error {
	path := verb
	if d.Within > 0 {
		path += "?wait=" + url.QueryEscape(d.Within.String())
	}
	past := map[string]string{"start": "started", "stop": "stopped", "restart": "restarted"}[verb]
	return k.each(ctx, d.Names, path, past, d.Output)
}

// each posts to every process, and says to which it was done.
func (k *controller) each(ctx context.Context, names []string, path, past, output string) error {
	var all []string
	var errs []error
	for _, name := range names {
		var done struct{ Processes []string }
		_, err := k.ask(ctx, http.MethodPost, "/v1/processes/"+url.PathEscape(name)+"/"+path, &done)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, done.Processes...)
	}
	if output == "json" {
		errs = append(errs, k.json(map[string][]string{"processes": slices.Concat([]string{}, all)}))
	} else {
		for _, name := range all {
			fmt.Fprintln(k.out, name, past)
		}
	}
	return errors.Join(errs...)
}

func (k *controller) json(v any) error {
	enc := json.NewEncoder(k.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (k *controller) reload(ctx context.Context, output string) error {
	var r reloadOutcome
	text, err := k.ask(ctx, http.MethodPost, "/v1/reload", &r)
	if err != nil {
		return err
	}
	if output == "json" {
		_, err := k.out.Write(text)
		return err
	}
	for _, part := range []struct {
		verb  string
		names []string
	}{{"started", r.Started}, {"restarted", r.Restarted}, {"updated", r.Updated}, {"removed", r.Removed}} {
		if len(part.names) > 0 {
			fmt.Fprintf(k.out, "%s: %s\n", part.verb, strings.Join(part.names, ", "))
		}
	}
	_, err = fmt.Fprintf(k.out, "unchanged: %d\n", r.Unchanged)
	return err
}

// event is one line of /v1/events.
type event struct {
	Time                                                         time.Time
	Process, Phase, Before, Reason, Cause, Detail, Probe, Result string
	Error                                                        string
	PID, Restarts                                                int
	ExitCode                                                     *int
}

// events prints events as they come.
func (k *controller) events(r io.Reader, output string) error {
	if output == "json" {
		_, err := io.Copy(k.out, r)
		return err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(k.out, e.String()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// String is an event for people.
func (e event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  ", e.Time.Local().Format("15:04:05.000"), e.Process)
	if e.Probe != "" {
		fmt.Fprintf(&b, "probe %s: %s", e.Probe, e.Result)
		if e.Error != "" {
			b.WriteString(": " + e.Error)
		}
		return b.String()
	}
	b.WriteString(e.Phase)
	if e.PID != 0 {
		fmt.Fprintf(&b, ", pid %d", e.PID)
	}
	if e.Cause != "" {
		b.WriteString(": " + e.Cause)
	} else if e.ExitCode != nil {
		fmt.Fprintf(&b, ": exited with code %d", *e.ExitCode)
	}
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	return b.String()
}
