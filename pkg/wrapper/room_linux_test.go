package wrapper

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tableSize is for how many descriptors our table has room.
func tableSize(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nFDSize:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRoomIsMadeForTheDescriptorsOfAllProcesses(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	before := tableSize(t)
	makeRoom(4)
	if now := tableSize(t); now != before {
		t.Errorf("for few it grew from %d to %d", before, now)
	}
	makeRoom(1 << 30) // more than the limit: no harm
	if limit.Cur < 2*4*500 {
		if os.Getenv("CI") != "" {
			t.Fatalf("in CI the tests may have more than %d descriptors (ulimit -n)", limit.Cur)
		}
		t.Skipf("with at most %d descriptors (ulimit -n) there is no room to make", limit.Cur)
	}
	makeRoom(500)
	if now := tableSize(t); now < 4*500 {
		t.Errorf("it has room for %d", now)
	}
	if _, err := unix.FcntlInt(smallTable/2+4*500, unix.F_GETFD, 0); err == nil {
		t.Error("a descriptor is left open")
	}
}
