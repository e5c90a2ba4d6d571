package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shimName  = "process-wrapper-shim" // argv[0] by which Init knows it
	shimExe   = "/proc/self/exe"       // also after the file was replaced
	shimWait  = 30 * time.Second       // for a shim to answer, on a very busy machine
	maxAnswer = 64 << 10
)

// orders are what the shim does. Strings that come from outside are bytes: JSON
// would spoil what is not UTF-8.
type orders struct {
	Path, Dir, Chroot        []byte
	Argv, Env                [][]byte
	IDs                      *ids
	Add, Drop, Ambient       uint64
	NoNewPrivs               bool
	Umask, Nice, OOMScoreAdj *int
	Rlimits                  []rlimitOrder
	Pdeathsig, Parent        int
}

type rlimitOrder struct {
	Name       string
	Resource   int
	Soft, Hard uint64
}

// answer is what the shim writes: one when it is about to exec, with no step, and
// one with the step that failed. Nothing after the first means success.
type answer struct {
	Step  string
	Errno int
	Hint  string
}

func needsShim(a *Attr) bool {
	return a.Umask != nil || a.Nice != nil || a.OOMScoreAdj != nil || a.NoNewPrivs ||
		len(a.Rlimits)+len(a.CapAdd)+len(a.CapDrop) > 0
}

func (l *launch) writeOrders() (*orders, error) {
	a := &l.cmd.Attr
	o := &orders{
		Path: []byte(l.path), Dir: []byte(l.dir), Chroot: []byte(a.Chroot),
		Argv: byteSlices(l.argv), Env: byteSlices(l.env), IDs: l.ids,
		Add: l.caps.add, Drop: l.caps.drop, Ambient: l.caps.ambient,
		NoNewPrivs: a.NoNewPrivs, Umask: a.Umask, Nice: a.Nice, OOMScoreAdj: a.OOMScoreAdj,
		Pdeathsig: int(a.Pdeathsig), Parent: os.Getpid(),
	}
	for _, lim := range a.Rlimits {
		res, err := resource(lim.Name)
		if err != nil {
			return nil, err
		}
		o.Rlimits = append(o.Rlimits, rlimitOrder{lim.Name, res, lim.Soft, lim.Hard})
	}
	return o, nil
}

func byteSlices(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

// resource returns the number of a limit by its name in prlimit(1).
func resource(name string) (int, error) {
	known := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
	if n, ok := known[strings.TrimPrefix(strings.ToLower(name), "rlimit_")]; ok {
		return n, nil
	}
	all := make([]string, 0, len(known))
	for k := range known {
		all = append(all, k)
	}
	slices.Sort(all)
	return 0, &StartError{Step: "set rlimit", Reason: ReasonAttribute,
		Err: fmt.Errorf("unknown limit %q: known are %s", name, strings.Join(all, ", "))}
}

// startShim starts our own binary as the child, gives it its orders and waits
// until it executed the program or failed to.
func (r *Reaper) startShim(c *Child, l *launch, files []int) (*Child, error) {
	text, err := json.Marshal(l.orders)
	if err != nil {
		return nil, shimError(err)
	}
	orders, give, err := os.Pipe()
	if err != nil {
		return nil, shimError(err)
	}
	defer orders.Close()
	defer give.Close()
	take, answers, err := os.Pipe()
	if err != nil {
		return nil, shimError(err)
	}
	defer take.Close()
	defer answers.Close()

	attr := &syscall.ProcAttr{Env: []string{"GOMAXPROCS=1"}, Sys: groupAttr(&l.cmd.Attr)}
	files = append(files, int(orders.Fd()), int(answers.Fd()))
	if err := r.fork(c, shimExe, []string{shimName}, attr, files); err != nil {
		return nil, l.explainShim(err)
	}
	orders.Close()
	answers.Close()
	if err := l.converse(text, give, take, shimWait); err != nil {
		_ = c.Signal(syscall.SIGKILL) // it may be gone already
		return nil, err
	}
	return c, nil
}

// converse gives a shim its orders and returns what it says.
func (l *launch) converse(text []byte, give, take *os.File, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	if err := errors.Join(give.SetDeadline(deadline), take.SetDeadline(deadline)); err != nil {
		return shimError(err)
	}
	_, writeErr := give.Write(text) // if it died, the answer says more
	give.Close()
	read := json.NewDecoder(io.LimitReader(take, maxAnswer))
	var ready, failed answer
	err := read.Decode(&ready)
	executing := err == nil && ready.Step == ""
	if executing {
		if err = read.Decode(&failed); errors.Is(err, io.EOF) {
			return nil // close-on-exec closed it
		}
	} else {
		failed = ready
	}
	switch {
	case err == nil:
		return l.failure(failed)
	case errors.Is(err, os.ErrDeadlineExceeded) && executing:
		return &StartError{Step: stepExec, Path: l.path, Reason: ReasonOther,
			Err: fmt.Errorf("%w after %v: its file system does not answer", syscall.ETIMEDOUT, wait)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return shimError(fmt.Errorf("no answer within %v: main must call command.Init first", wait))
	case writeErr != nil:
		return shimError(writeErr)
	}
	return shimError(errors.New("it was killed or crashed before it could execute the program"))
}

// failure turns an answer into the error that a direct start would have had.
func (l *launch) failure(a answer) error {
	errno := syscall.Errno(a.Errno)
	switch a.Step {
	case stepExec:
		return l.explain(errno)
	case stepIDs:
		return l.ids.denied(errno)
	}
	e := &StartError{Step: a.Step, Reason: ReasonAttribute, Err: errno}
	if a.Step == stepChroot || a.Step == stepDir {
		if found := l.explainDirs(errno); found != nil {
			return found
		}
		e.Reason = ReasonDir
	}
	if a.Hint != "" {
		e.Err = fmt.Errorf("%w: %s", errno, a.Hint)
	}
	return e
}

func (l *launch) explainShim(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return &StartError{Step: "exec", Path: shimExe, Reason: ReasonNotFound,
			Err: fmt.Errorf("%w: limits, priorities and capabilities need /proc to be mounted", syscall.ENOENT)}
	}
	return l.explain(err)
}

func shimError(err error) error {
	return &StartError{Step: "prepare process", Reason: reasonOf(err), Err: err}
}
