//go:build !linux

package lease

import (
	"sync"
	"time"
)

var started = time.Now()

// Boottime is the time since this program was started.
func Boottime() time.Duration { return time.Since(started) }

// alarm goes off at a time of [Boottime].
type alarm struct {
	over  chan struct{}
	once  sync.Once
	timer *time.Timer
}

func newAlarm() *alarm {
	a := &alarm{over: make(chan struct{}), timer: time.NewTimer(0)}
	<-a.timer.C
	return a
}

func (a *alarm) set(at time.Duration) error {
	a.timer.Reset(max(at-Boottime(), 0))
	return nil
}

func (a *alarm) wait() bool {
	select {
	case <-a.timer.C:
		return true
	case <-a.over:
		return false
	}
}

func (a *alarm) close() {
	a.once.Do(func() {
		close(a.over)
		a.timer.Stop()
	})
}
