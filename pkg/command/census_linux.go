package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxStat    = 4096    // bytes of /proc/PID/stat
	maxEnviron = 8 << 20 // bytes of /proc/PID/environ that are searched for the cookie
	repairs    = 3       // rounds of reading again what lost its parent meanwhile
)

// proc is one process as /proc/PID/stat had it.
type proc struct {
	pid, ppid, pgrp, sid int
	threads              int
	start                uint64 // clock ticks since boot: with pid, its identity
	state                byte
}

// alive is false for the dead whom nobody has collected. A process whose first
// thread ended looks like one of those, but has other threads.
func (p *proc) alive() bool {
	return p.state != 'Z' && p.state != 'X' || p.threads > 1
}

// census is one pass over /proc, seen from us.
type census struct {
	of    map[*Child][]proc // alive, of the children that are being swept
	below []proc            // alive, all our descendants
	procs map[int]*proc     // all that can be seen
	err   error             // why it is not whole
}

// takeCensus makes a pass. Registry and orphans are read after it, so a process
// in it that has no entry was not started by us or is dead.
func (r *Reaper) takeCensus() *census {
	procs, err := readProcs()
	if err != nil {
		return &census{err: err}
	}
	b := &book{
		self:    os.Getpid(),
		run:     r.run,
		procs:   procs,
		living:  make(map[int]bool),
		bySeq:   make(map[uint64]*Child),
		byPID:   make(map[int]*Child),
		cookies: make(map[int]uint64),
	}
	r.lookAtChildren()
	r.register(b)
	return b.close()
}

// register enters what we know of our children.
func (r *Reaper) register(b *book) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid := range r.children {
		b.living[pid] = true
	}
	for c := range r.sweeping {
		b.bySeq[c.seq] = c
		// A number is not given out again while a group or session has it, so if a
		// process has it now, nothing is left of the child's.
		if c.group && b.procs[c.pid] == nil {
			b.byPID[c.pid] = c
		}
	}
	b.orphans = make(map[int]uint64, len(r.adopted))
	for pid, seen := range r.adopted {
		b.orphans[pid] = seen
		if p := b.procs[pid]; p == nil || p.ppid != b.self { // came during the pass
			now, err := lookAt(pid)
			if err == nil {
				b.procs[pid] = &now
			}
			b.note(err)
		}
	}
}

// readProcs reads every process that it may read. The error says why there are
// more. A process whose parent ended between the two reads is read again: it has a
// new parent.
func readProcs() (map[int]*proc, error) {
	names, err := readDirNames("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	procs := make(map[int]*proc, len(names))
	buf := make([]byte, maxStat)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch p, err := readProcInto(pid, buf); {
		case err == nil:
			procs[pid] = &p
		case lacking(err):
			return nil, err
		}
	}
	if procs[os.Getpid()] == nil {
		return nil, errNoProc
	}
	return procs, repair(procs)
}

// repair reads again what lost its parent meanwhile.
func repair(procs map[int]*proc) error {
	for range repairs {
		changed := false
		for pid, p := range procs {
			if p.ppid == 0 || procs[p.ppid] != nil {
				continue
			}
			changed = true
			delete(procs, pid)
			now, err := lookAt(pid)
			if lacking(err) {
				return err
			}
			if err != nil {
				continue
			}
			procs[pid] = &now
			parent, err := lookAt(now.ppid)
			if lacking(err) {
				return err
			}
			if err == nil {
				procs[now.ppid] = &parent
			}
		}
		if !changed {
			break
		}
	}
	return nil
}

// lookAt reads one process. The error is errGone if there is none.
func lookAt(pid int) (proc, error) { return readProcInto(pid, make([]byte, maxStat)) }

// readProcInto is lookAt; buf is scratch.
func readProcInto(pid int, buf []byte) (p proc, err error) {
	fd, err := open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC)
	n := 0
	if err == nil {
		n, err = unix.Read(fd, buf)
		unix.Close(fd)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return p, errGone
	}
	if err != nil {
		return p, fmt.Errorf("look at process %d: %w", pid, err)
	}
	p, ok := parseStat(buf[:n])
	if !ok || p.pid != pid {
		return p, fmt.Errorf("look at process %d: its status is malformed", pid)
	}
	return p, nil
}

// parseStat parses /proc/PID/stat, see proc_pid_stat(5). The name, in brackets,
// may hold anything.
func parseStat(b []byte) (p proc, ok bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return p, false
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:open])))
	if err != nil || pid <= 0 {
		return p, false
	}
	p.pid = pid
	field := 2
	for f := range bytes.FieldsSeq(b[end+1:]) {
		field++
		var err error
		switch field {
		case 3:
			p.state = f[0]
		case 4:
			p.ppid, err = strconv.Atoi(string(f))
		case 5:
			p.pgrp, err = strconv.Atoi(string(f))
		case 6:
			p.sid, err = strconv.Atoi(string(f))
		case 20:
			p.threads, err = strconv.Atoi(string(f))
		case 22:
			p.start, err = strconv.ParseUint(string(f), 10, 64)
			return p, err == nil
		}
		if err != nil {
			return p, false
		}
	}
	return p, false
}

// readCookie returns the incarnation that marked a process's environment, 0 if
// none did or it cannot be read.
func readCookie(pid int, run string) (uint64, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	env, _ := io.ReadAll(io.LimitReader(f, maxEnviron)) // what came before an error counts
	return findCookie(env, run), nil
}

func findCookie(env []byte, run string) uint64 {
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if v, ok := strings.CutPrefix(string(kv[:min(len(kv), maxStat)]), cookieName+"="); ok {
			seq, _ := cookieSeq(v, run)
			return seq
		}
	}
	return 0
}
