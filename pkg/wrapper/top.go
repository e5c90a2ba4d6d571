package wrapper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

const topEvery = time.Second

// keys are what a person may press in top.
const topKeys = "q quit  r restart  s stop/start  l logs  n all/not ready  ↑↓ PgUp PgDn choose"

// top shows all processes on a terminal, again and again, and does what keys say.
// Where stdout is no terminal it prints a table once.
func (k *controller) top(ctx context.Context) error {
	out, ok := k.out.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return k.status(ctx, nil, "text", false)
	}
	// Not stdin, whose reads cannot be interrupted.
	in, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer in.Close()
	raw, err := in.SyscallConn()
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	var old *term.State
	var termErr error
	if err := raw.Control(func(fd uintptr) { old, termErr = term.MakeRaw(int(fd)) }); err != nil || termErr != nil {
		return fmt.Errorf("set up the terminal: %w", errors.Join(err, termErr))
	}
	defer func() {
		_ = raw.Control(func(fd uintptr) { _ = term.Restore(int(fd), old) }) // the terminal has gone
	}()
	// The alternate screen, without a cursor.
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	defer fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")

	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT) // which would leave the terminal as it is now
	defer cancel()
	t := &top{controller: k, out: out, keys: make(chan string), resized: make(chan os.Signal, 1)}
	signal.Notify(t.resized, syscall.SIGWINCH)
	defer signal.Stop(t.resized)
	var reading sync.WaitGroup
	reading.Go(func() { t.read(ctx, in) })
	err = t.run(ctx)
	cancel()
	_ = in.SetReadDeadline(time.Unix(1, 0)) // ends the read
	reading.Wait()
	return err
}

// top is the state of a screen.
type top struct {
	*controller
	out     *os.File
	keys    chan string
	resized chan os.Signal

	all    overview
	err    error  // of the last look
	chosen string // name
	first  int    // row that is shown at the top
	page   int    // how many there is room for
	unwell bool   // only processes that are not ready are shown
	note   string // what became of a key
	logs   bool   // the latest lines of the chosen one are shown

	doing sync.WaitGroup
	notes chan string
}

func (t *top) run(ctx context.Context) error {
	t.notes = make(chan string, 16)
	defer t.doing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // nobody waits any more for what is being done
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	for {
		if _, err := t.ask(ctx, http.MethodGet, "/v1/processes", &t.all); ctx.Err() != nil {
			return nil
		} else if t.err = err; err != nil {
			t.all = overview{}
		}
		t.draw(ctx)
		select {
		case <-ctx.Done():
			return nil
		case key := <-t.keys:
			if t.press(ctx, key) {
				return nil
			}
		case t.note = <-t.notes:
		case <-t.resized:
		case <-tick.C:
		}
	}
}

// press does what a key says, and reports whether that is to quit.
func (t *top) press(ctx context.Context, key string) (quit bool) {
	switch key {
	case "q", "\x03", "\x1b":
		if t.logs && key != "\x03" {
			t.logs = false
			return false
		}
		return true
	case "n":
		t.unwell = !t.unwell
	case "l", "\r":
		t.logs = !t.logs
	case "r":
		t.do(ctx, "restart")
	case "s":
		verb := "stop"
		if r := t.chosenRow(); r != nil && r.ended() {
			verb = "start"
		}
		t.do(ctx, verb)
	default:
		t.move(t.distance(key))
	}
	return false
}

// distance is how many rows a key goes down.
func (t *top) distance(key string) int {
	switch key {
	case "up", "k":
		return -1
	case "down", "j":
		return +1
	case "page up":
		return -t.page
	case "page down", " ":
		return +t.page
	case "home", "g":
		return -len(t.all.Processes)
	case "end", "G":
		return +len(t.all.Processes)
	}
	return 0
}

// ended says whether a process does not run and will not by itself.
func (r *row) ended() bool {
	switch r.Phase {
	case "stopped", "completed", "failed":
		return true
	}
	return false
}

func (t *top) chosenRow() *row {
	for i := range t.all.Processes {
		if t.all.Processes[i].Name == t.chosen {
			return &t.all.Processes[i]
		}
	}
	return nil
}

// rows are the processes that are shown.
func (t *top) rows() []row {
	if t.unwell {
		return t.all.unready()
	}
	return t.all.Processes
}

// index is the place of the chosen process in rows; the first one is chosen where it
// is none of them any more.
func (t *top) index() int {
	rows := t.rows()
	for i, r := range rows {
		if r.Name == t.chosen {
			return i
		}
	}
	t.chosen = ""
	if len(rows) > 0 {
		t.chosen = rows[0].Name
	}
	return 0
}

func (t *top) move(by int) {
	if rows := t.rows(); len(rows) > 0 {
		t.chosen = rows[min(max(t.index()+by, 0), len(rows)-1)].Name
	}
}

// do begins to do something to the chosen process.
func (t *top) do(ctx context.Context, verb string) {
	name := t.chosen
	if name == "" {
		return
	}
	t.note = verb + " " + name + "…"
	t.doing.Go(func() {
		var done struct{ Processes []string }
		_, err := t.ask(ctx, http.MethodPost, "/v1/processes/"+url.PathEscape(name)+"/"+verb+"?wait=30s", &done)
		note := verb + " " + name + ": done"
		if err != nil {
			note = verb + " " + err.Error()
		}
		select {
		case t.notes <- note:
		default: // others are more recent
		}
	})
}

// draw paints the whole screen at once.
func (t *top) draw(ctx context.Context) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	line := func(text string) { b.WriteString(shorten(text, width) + "\x1b[K\r\n") }
	switch {
	case t.err != nil:
		line(t.err.Error())
	default:
		line(fmt.Sprintf("%s, %d processes: %s", t.all.summary(), len(t.all.Processes), t.all.counts()))
	}
	if t.logs {
		t.drawLogs(ctx, line, height-4)
	} else {
		t.drawTable(&b, line, width, height-4)
	}
	b.WriteString("\x1b[J")
	why := ""
	if r := t.chosenRow(); r != nil {
		if r.endedBadly() {
			r.last = t.lastLine(ctx, r.Name)
		}
		why = r.Name + ": " + cmp.Or(r.why(time.Now()), r.Phase)
	}
	rest := t.note
	if head := []rune(why); rest == "" && len(head) > width && width > 0 { // its line is free
		why, rest = string(head[:width]), string(head[width:])
	}
	fmt.Fprintf(&b, "\x1b[%d;1H\x1b[K%s", height-2, shorten(why, width))
	fmt.Fprintf(&b, "\x1b[%d;1H\x1b[K%s", height-1, shorten(rest, width))
	fmt.Fprintf(&b, "\x1b[%d;1H\x1b[K\x1b[2m%s\x1b[0m", height, shorten(topKeys, width))
	_, _ = io.WriteString(t.out, b.String()) // the terminal has gone: so has whoever looked
}

// drawTable draws as many rows as there is room for, the chosen one among them.
func (t *top) drawTable(b *strings.Builder, line func(string), width, height int) {
	t.page = max(height-1, 1)
	rows := t.rows()
	at := t.index()
	t.first = min(max(t.first, at-t.page+1), at)
	t.first = max(min(t.first, len(rows)-t.page), 0)
	lines := align(narrow(cells(rows, time.Now()), width))
	b.WriteString("\x1b[1m")
	line(lines[0])
	b.WriteString("\x1b[0m")
	for i := t.first; i < min(len(rows), t.first+t.page); i++ {
		text := shorten(lines[i+1], width)
		if i == at {
			text += strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
			b.WriteString("\x1b[7m" + text + "\x1b[0m\r\n")
			continue
		}
		b.WriteString(paint(rows[i], text) + "\x1b[K\r\n")
	}
}

// paint gives a row the colour of its phase, which its word says too.
func paint(r row, text string) string {
	color := ""
	switch {
	case r.endedBadly():
		color = "31" // red
	case r.Ready:
		color = "32" // green
	case r.Phase == "skipped" || r.Phase == "standby" || r.Phase == "stopped":
		color = "2" // dim
	default:
		color = "33" // yellow
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// drawLogs draws the latest lines of the chosen process.
func (t *top) drawLogs(ctx context.Context, line func(string), height int) {
	q := url.Values{"name": {t.chosen}, "lines": {fmt.Sprint(height - 1)}}
	line("logs of " + t.chosen + ", l or q goes back")
	err := t.stream(ctx, "/v1/logs?"+q.Encode(), func(r io.Reader) error {
		text, err := io.ReadAll(io.LimitReader(r, maxReply))
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		for _, l := range lines[max(0, len(lines)-height+1):] {
			line(printable(brief(l)))
		}
		return err
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		line(err.Error())
	}
}

// brief is a line of the log without what is the same in each: time of day,
// stream and all that follows.
func brief(l string) string {
	const stamp = "time=2006-01-02T"
	at := strings.Index(l, " out=")
	if !strings.HasPrefix(l, "time=") || at < len(stamp)+8 {
		return l
	}
	return l[len(stamp):len(stamp)+8] + " " + l[at+len(" out="):]
}
