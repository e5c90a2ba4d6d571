package etcdstore

import "golang.org/x/sys/unix"

// boottime is in nanoseconds of a clock that goes on in suspend, 0 if there is none.
func boottime() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return t.Nano()
}
