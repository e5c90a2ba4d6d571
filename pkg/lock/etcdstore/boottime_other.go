//go:build !linux

package etcdstore

// boottime is in nanoseconds of a clock that goes on in suspend, 0 if there is none.
func boottime() int64 { return 0 }
