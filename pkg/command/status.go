package command

import (
	"strconv"
	"syscall"
	"time"
)

// Status is how a process ended.
type Status struct {
	wait   syscall.WaitStatus
	maxRSS int64
	cpu    time.Duration
}

// Code is its exit code, or 128+n if signal n ended it.
func (s Status) Code() int {
	if s.wait.Signaled() {
		return 128 + int(s.wait.Signal())
	}
	return s.wait.ExitStatus()
}

// Signal is what ended it, or 0 if it exited by itself.
func (s Status) Signal() syscall.Signal {
	if s.wait.Signaled() {
		return s.wait.Signal()
	}
	return 0
}

// CoreDumped says whether it left a core dump.
func (s Status) CoreDumped() bool { return s.wait.CoreDump() }

// MaxRSS is the most memory, in bytes, that it or a child it waited for had resident.
func (s Status) MaxRSS() int64 { return s.maxRSS }

// CPU is the time, user and system, that it and the children it waited for used.
func (s Status) CPU() time.Duration { return s.cpu }

// Success says whether it exited with code 0.
func (s Status) Success() bool { return s.wait == 0 }

func (s Status) String() string {
	if !s.wait.Signaled() {
		return "exit code " + strconv.Itoa(s.wait.ExitStatus())
	}
	text := s.wait.Signal().String()
	if s.CoreDumped() {
		text += " (core dumped)"
	}
	return text
}
