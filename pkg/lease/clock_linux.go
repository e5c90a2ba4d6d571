package lease

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Boottime is the time since the machine was started. It goes on while the machine is suspended.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // it exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// alarm goes off at a time of [Boottime].
type alarm struct {
	file  *os.File // nil where the kernel has no such timer
	timer *time.Timer
	over  chan struct{} // closed by close
	once  sync.Once
}

// newAlarm returns an alarm that is not set.
func newAlarm() *alarm {
	a := &alarm{over: make(chan struct{}), timer: time.NewTimer(0)}
	<-a.timer.C
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err == nil {
		a.file = os.NewFile(uintptr(fd), "boottime")
	}
	return a
}

// set sets it; a time that has passed makes it go off at once.
func (a *alarm) set(at time.Duration) error {
	if a.file == nil {
		a.timer.Reset(max(at-Boottime(), 0))
		return nil
	}
	conn, err := a.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(at.Nanoseconds(), 1))}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	return nil
}

// wait waits until it goes off, and returns false once it was closed.
func (a *alarm) wait() bool {
	if a.file == nil {
		select {
		case <-a.timer.C:
			return true
		case <-a.over:
			return false
		}
	}
	var count [8]byte
	_, err := a.file.Read(count[:])
	return err == nil
}

func (a *alarm) close() {
	a.once.Do(func() {
		close(a.over)
		a.timer.Stop()
		if a.file != nil {
			_ = a.file.Close() // nothing was written
		}
	})
}
