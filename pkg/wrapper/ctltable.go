package wrapper

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// reloadOutcome is the answer of /v1/reload.
type reloadOutcome = reloadJSON

// row is what /v1/processes says of one process.
type row struct {
	Name     string
	Phase    string
	Ready    bool
	PID      *int
	Restarts int
	Since    time.Time
	Next     *time.Time
	KillAt   *time.Time
	Cause    *string
	Detail   string
	Probes   []struct {
		Name, Result string
		Error        *string
	}
	Lock *struct {
		Key  string
		Held bool
	}
	Usage *struct {
		CPUPercent  float64
		MemoryBytes int64
	}
	last string // line that it wrote, where that was asked for
}

// overview is the answer of /v1/processes.
type overview struct {
	Ready bool
	Alive bool
	Pod   struct {
		Draining, Preempted bool
		Reason              string
	}
	Processes []row
}

// pick returns the processes that are named, or all.
func (o *overview) pick(names []string) ([]row, error) {
	if len(names) == 0 {
		return o.Processes, nil
	}
	var all []row
	for _, name := range names {
		found := false
		for _, r := range o.Processes {
			if r.Name == name || strings.HasPrefix(r.Name, name+"_") {
				all, found = append(all, r), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no process %q", name)
		}
	}
	return all, nil
}

// watchEvery is how often status -w looks for changes that are no events, such as of memory.
const watchEvery = 2 * time.Second

// status prints a line for each process.
func (k *controller) status(ctx context.Context, names []string, output string, watch bool) error {
	for {
		var o overview
		text, err := k.ask(ctx, http.MethodGet, "/v1/processes", &o)
		if err != nil {
			return err
		}
		rows, err := o.pick(names)
		if err != nil {
			return err
		}
		switch output {
		case "json":
			_, err = k.out.Write(text)
		case "names":
			for _, r := range rows {
				_, err = fmt.Fprintln(k.out, r.Name)
			}
		default:
			k.lastLines(ctx, rows)
			err = k.table(&o, rows, watch)
		}
		if err != nil || !watch {
			return err
		}
		if sleep(ctx, watchEvery) != nil {
			return nil
		}
	}
}

// table prints the pod and a line for each process, cut to the terminal.
func (k *controller) table(o *overview, rows []row, clear bool) error {
	width := terminalWidth(k.out)
	var b strings.Builder
	if clear && width > 0 {
		b.WriteString("\x1b[H\x1b[2J")
	}
	fmt.Fprintln(&b, o.summary())
	for _, line := range align(narrow(cells(rows, time.Now()), width)) {
		fmt.Fprintln(&b, shorten(line, width))
	}
	_, err := io.WriteString(k.out, b.String())
	return err
}

// summary is the pod in one line.
func (o *overview) summary() string {
	s := "pod: ready"
	if !o.Ready {
		s = "pod: not ready"
	}
	if !o.Alive {
		s += ", counts as dead"
	}
	if o.Pod.Draining || o.Pod.Preempted {
		s += ", leaving service: " + o.Pod.Reason
	}
	return s
}

// byWorth are the phases in the order in which they are counted: first how many are
// well, then what needs somebody most.
var byWorth = []status.Phase{
	status.Ready, status.Failed, status.Backoff, status.Running, status.Starting, status.Waiting, status.Stopping, status.Stopped,
	status.Standby, status.Completed, status.Skipped,
}

// counts says how many processes are in each phase.
func (o *overview) counts() string {
	n := make(map[string]int)
	for _, r := range o.Processes {
		n[r.Phase]++
	}
	var parts []string
	for _, phase := range byWorth {
		if count := n[string(phase)]; count > 0 {
			parts = append(parts, strconv.Itoa(count)+" "+string(phase))
		}
	}
	return strings.Join(parts, ", ")
}

// unready are the processes that are not ready.
func (o *overview) unready() []row {
	return slices.DeleteFunc(slices.Clone(o.Processes), func(r row) bool { return r.Ready })
}

// cells are the columns of a table, its head first.
func cells(rows []row, now time.Time) [][]string {
	all := [][]string{{"NAME", "PHASE", "READY", "PID", "RESTARTS", "FOR", "CPU", "MEMORY", "WHY"}}
	for _, r := range rows {
		line := []string{r.Name, r.Phase, "no", "", strconv.Itoa(r.Restarts), age(now.Sub(r.Since)), "", "", r.why(now)}
		if r.Ready {
			line[2] = "yes"
		}
		if r.PID != nil {
			line[3] = strconv.Itoa(*r.PID)
		}
		if r.Usage != nil && r.PID != nil {
			line[6] = fmt.Sprintf("%.1f%%", r.Usage.CPUPercent)
			line[7] = bytesOf(r.Usage.MemoryBytes)
		}
		all = append(all, line)
	}
	return all
}

// why is what an operator wants to know of a process that is not well: the check
// that fails, what it waits for, or how it ended last.
func (r *row) why(now time.Time) string {
	var parts []string
	for _, p := range r.Probes {
		if p.Result != string(status.Pass) && p.Error != nil && !r.endedBy(p.Name+": "+*p.Error) {
			parts = append(parts, p.Name+": "+*p.Error)
		}
	}
	if r.Detail != "" {
		parts = append(parts, r.Detail)
	}
	if r.Cause != nil && (len(parts) == 0 || !r.Ready) {
		parts = append(parts, "last end: "+*r.Cause)
	}
	if r.last != "" {
		parts = append(parts, "last line: "+r.last)
	}
	parts = append(parts, r.coming(now)...)
	if r.Lock != nil && r.Lock.Held {
		parts = append(parts, "holds lock "+r.Lock.Key)
	}
	return printable(strings.Join(parts, "; "))
}

// coming is what happens to a process next, and when.
func (r *row) coming(now time.Time) (parts []string) {
	switch {
	case r.KillAt == nil:
	case r.KillAt.After(now):
		parts = append(parts, "SIGKILL in "+age(r.KillAt.Sub(now)))
	default:
		parts = append(parts, "SIGKILL was sent "+age(now.Sub(*r.KillAt))+" ago")
	}
	if r.Next != nil && r.Next.After(now) {
		parts = append(parts, "next start in "+age(r.Next.Sub(now)))
	}
	return parts
}

// maxLast is of how many processes a table has the last line.
const maxLast = 16

// lastLines finds the last line of processes that ended badly, which mostly says why.
func (k *controller) lastLines(ctx context.Context, rows []row) {
	left := maxLast
	for i := range rows {
		if r := &rows[i]; r.endedBadly() && left > 0 {
			left--
			r.last = k.lastLine(ctx, r.Name)
		}
	}
}

func (r *row) endedBadly() bool {
	return r.Phase == string(status.Backoff) || r.Phase == string(status.Failed)
}

// lastLine is what a process said last, "" where that is not known.
func (k *controller) lastLine(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, k.within)
	defer cancel()
	var text []byte
	_ = k.stream(ctx, "/v1/logs?"+url.Values{"name": {name}, "lines": {"1"}}.Encode(), func(r io.Reader) (err error) {
		text, err = io.ReadAll(io.LimitReader(r, 64<<10))
		return err
	}) // the table does without it
	return said(strings.TrimSpace(string(text)))
}

// said is a line of the log without what we have put before it.
func said(line string) string {
	_, rest, ok := strings.Cut(line, " out=")
	if !strings.HasPrefix(line, "time=") || !ok {
		return line
	}
	_, rest, _ = strings.Cut(rest, " ")
	quoted, ok := strings.CutPrefix(rest, "msg=")
	if !ok {
		return rest
	}
	if text, err := strconv.Unquote(quoted); err == nil {
		return text
	}
	if strings.ContainsAny(quoted, " \"") { // there are more fields
		return rest
	}
	return quoted
}

// endedBy says whether a process that is gone was ended by a failed check: it is told once.
func (r *row) endedBy(text string) bool { return r.PID == nil && r.Cause != nil && *r.Cause == text }

// printable takes out what a process could do to the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return -1
		}
		return r
	}, s)
}

// age is a time in two units at most.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// bytesOf is a count of bytes for people.
func bytesOf(n int64) string {
	const unit = 1024
	switch v := float64(n); {
	case v < unit*unit:
		return fmt.Sprintf("%.0fKiB", v/unit)
	case v < unit*unit*unit:
		return fmt.Sprintf("%.1fMiB", v/unit/unit)
	default:
		return fmt.Sprintf("%.2fGiB", v/unit/unit/unit)
	}
}

// On a terminal that is less than roomy the reasons need the place of other columns.
const (
	roomy          = 100
	restartsColumn = 4
	forColumn      = 5
)

// minName is how many characters of names are shown however narrow a terminal is.
const minName = 16

// narrow cuts long names, in their middle, so that the other columns but the last
// fit a width too; 0 is any.
func narrow(all [][]string, width int) [][]string {
	if width <= 0 {
		return all
	}
	if width < roomy {
		for i, line := range all {
			all[i] = slices.Delete(line, forColumn, forColumn+1)
		}
		all[0][restartsColumn] = "RST"
	}
	room := width - 2 // between it and the next
	for _, w := range widthsOf(all)[1 : len(all[0])-1] {
		room -= w + 2
	}
	room = max(room, minName)
	for _, line := range all {
		if r := []rune(line[0]); len(r) > room {
			line[0] = string(r[:room/2]) + "…" + string(r[len(r)-(room-room/2-1):])
		}
	}
	return all
}

// widthsOf are the widths of the columns.
func widthsOf(all [][]string) []int {
	widths := make([]int, len(all[0]))
	for _, line := range all {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// align makes lines of cells, numbers to the right.
func align(all [][]string) []string {
	widths := widthsOf(all)
	numbers := []string{"PID", "RESTARTS", "RST", "FOR", "CPU", "MEMORY"}
	lines := make([]string, len(all))
	for n, line := range all {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if slices.Contains(numbers, all[0][i]) {
				b.WriteString(pad + cell + "  ")
			} else {
				b.WriteString(cell + pad + "  ")
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// shorten cuts a line to a width, 0 is any.
func shorten(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(width-1, 0)]) + "…"
}

// terminalWidth is that of the terminal that w is, 0 where it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
