package wrapper

import "golang.org/x/sys/unix"

const (
	// smallTable is how many descriptors a process can have without more room.
	smallTable = 64
	// perProcess is how many a process needs while it is started: two pipes.
	perProcess = 4
)

// makeRoom grows the table of descriptors to what the start of so many processes
// will need. The kernel doubles it where it must, and then has all threads that
// need a descriptor wait until every core has noticed: some 10 ms each time.
func makeRoom(processes int) {
	need := smallTable/2 + perProcess*processes
	if need <= smallTable {
		return
	}
	if fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, need); err == nil { // else it grows as it must
		unix.Close(fd)
	}
}
