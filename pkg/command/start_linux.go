package command

import (
	"fmt"
	"os"
	"syscall"
)

// launch is a command made ready to fork.
type launch struct {
	cmd    *Command
	path   string // what is executed, relative to dir
	dir    string
	argv   []string
	env    []string
	ids    *ids    // nil: keep ours
	caps   capPlan // zero: keep ours
	orders *orders // for the shim; nil: not needed
}

// Start starts a process. The error is a [*StartError], or [ErrEnded]. Every
// started child is collected by Run, whether somebody waits for it or not.
func (r *Reaper) Start(cmd *Command) (*Child, error) {
	_ = r.setup() // Impaired reports it; as far as we are concerned orphans go elsewhere
	defer r.keepReaping()()
	seq := r.seq.Add(1)
	l, err := r.plan(cmd, cookie(r.run, seq, cmd.Name))
	if err != nil {
		return nil, err
	}
	files, err := r.streams(cmd)
	if err != nil {
		return nil, err
	}
	if cmd.Deadline > 0 {
		if err := r.expect(seq, cmd.Deadline); err != nil {
			return nil, err
		}
	}
	c, err := r.start(cmd, l, seq, files)
	if err != nil {
		r.unguard(seq)
	}
	return c, err
}

func (r *Reaper) start(cmd *Command, l *launch, seq uint64, files []int) (*Child, error) {
	c := &Child{r: r, name: cmd.Name, seq: seq, guarded: cmd.Deadline > 0, group: !cmd.Attr.SameGroup || cmd.Attr.Setsid, exited: make(chan struct{})}
	if l.orders != nil {
		return r.startShim(c, l, files)
	}
	attr := &syscall.ProcAttr{Dir: l.dir, Env: l.env, Sys: l.sysProcAttr()}
	if err := r.fork(c, l.path, l.argv, attr, files); err != nil {
		return nil, l.explain(err)
	}
	return c, nil
}

// plan finds the program and resolves names.
func (r *Reaper) plan(cmd *Command, cookie string) (*launch, error) {
	if err := cmd.check(); err != nil {
		return nil, err
	}
	l := &launch{cmd: cmd, dir: cmd.Dir, env: withCookie(cmd.Env, cookie)}
	if cmd.Attr.Chroot != "" && (l.dir == "" || l.dir[0] != '/') {
		l.dir = "/" + l.dir // a directory outside would be a way out
	}
	var err error
	if l.path, err = l.find(); err != nil {
		return nil, err
	}
	l.argv = append([]string{cmd.Path}, cmd.Args...)
	if l.ids, err = resolve(&cmd.Attr); err != nil {
		return nil, err
	}
	if l.caps, err = planCaps(&cmd.Attr); err != nil {
		return nil, err
	}
	if remote := l.preflight(r.remote); remote || r.deaf || needsShim(&cmd.Attr) {
		l.orders, err = l.writeOrders()
	}
	return l, err
}

// sysProcAttr is for programs that are executed directly.
func (l *launch) sysProcAttr() *syscall.SysProcAttr {
	a := &l.cmd.Attr
	s := groupAttr(a)
	s.Chroot, s.Pdeathsig = a.Chroot, a.Pdeathsig
	for _, c := range capBitsOf(l.caps.ambient) {
		s.AmbientCaps = append(s.AmbientCaps, uintptr(c))
	}
	if l.ids != nil {
		s.Credential = &syscall.Credential{Uid: l.ids.UID, Gid: l.ids.GID, Groups: l.ids.Groups}
	}
	return s
}

func groupAttr(a *Attr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: a.Setsid, Setpgid: !a.Setsid && !a.SameGroup}
}

// streams returns the three streams of a child, in blocking mode as programs
// expect them.
func (r *Reaper) streams(cmd *Command) ([]int, error) {
	null, err := r.forkers.devNull()
	if err != nil {
		return nil, &StartError{Step: "open", Path: os.DevNull, Reason: reasonOf(err), Err: err}
	}
	fds := []int{null, null, null}
	for i, f := range []*os.File{nil, cmd.Stdout, cmd.Stderr} {
		if f == nil {
			continue
		}
		if fds[i] = int(f.Fd()); fds[i] < 0 {
			return nil, &StartError{Step: "exec", Path: cmd.Path, Reason: ReasonOther, Err: fmt.Errorf("%w: its stdout or stderr is closed", syscall.EBADF)}
		}
	}
	return fds, nil
}
