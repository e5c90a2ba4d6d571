package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// cgroupFiles writes files and returns where /proc/self/cgroup and the mount are.
func cgroupFiles(t *testing.T, files map[string]string) (cgroups, mount string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cgroup"), filepath.Join(dir, "fs")
}

func TestOOMFindsItsOwnCgroup(t *testing.T) {
	t.Parallel()
	const v1, v2 = "oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", "low 0\nhigh 7\nmax 8\noom 9\noom_kill %d\noom_group_kill 6\n"
	count := func(form string, n int) string { return fmt.Sprintf(form, n) }
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  uint64
	}{
		{"version 2", map[string]string{"cgroup": "0::/pod/c1\n", "fs/pod/c1/memory.events": count(v2, 3), "fs/memory.events": count(v2, 99)}, 3},
		{"version 2, seen as the root", map[string]string{"cgroup": "0::/\n", "fs/memory.events": count(v2, 3)}, 3},
		{"version 2, the path is the host's", map[string]string{"cgroup": "0::/pod/c1\n", "fs/memory.events": count(v2, 3)}, 3},
		{"version 2, a path from outside of the namespace", map[string]string{"cgroup": "0::/../../c2\n", "fs/memory.events": count(v2, 3), "c2/memory.events": count(v2, 99)}, 3},
		{"version 1", map[string]string{"cgroup": "5:cpu:/c1\n4:memory:/c1\n1:name=systemd:/c1\n0::/\n", "fs/memory/c1/memory.oom_control": count(v1, 4), "fs/memory/memory.oom_control": count(v1, 99)}, 4},
		{"version 1, the path is the host's", map[string]string{"cgroup": "4:memory:/docker/c1\n", "fs/memory/memory.oom_control": count(v1, 4)}, 4},
		{"version 1 with others in one", map[string]string{"cgroup": "4:hugetlb,memory:/a:b\n", "fs/memory/a:b/memory.oom_control": count(v1, 4)}, 4},
		{"both, memory in version 1", map[string]string{"cgroup": "0::/c1\n4:memory:/c1\n", "fs/memory/c1/memory.oom_control": count(v1, 4)}, 4},
		{"an old kernel that does not count", map[string]string{"cgroup": "4:memory:/\n", "fs/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, 0},
		{"no memory cgroup", map[string]string{"cgroup": "5:cpu:/\n"}, 0},
		{"no cgroups", nil, 0},
		{"nonsense", map[string]string{"cgroup": "0:\n\x00:::\n0::/\n", "fs/memory.events": "oom_kill many\n"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := newOOM(cgroupFiles(t, tt.files)).Kills(); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestEachOOMKillExplainsOneDeath(t *testing.T) {
	t.Parallel()
	cgroups, mount := cgroupFiles(t, map[string]string{"cgroup": "0::/\n", "fs/memory.events": "oom_kill 5\n"})
	o := newOOM(cgroups, mount)
	kills := func(n int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(mount, "memory.events"), fmt.Appendf(nil, "oom_kill %d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name  string
		kills int
		since uint64
		want  bool
	}{
		{"somebody killed it, none since its start", 5, 5, false},
		{"the kernel killed it", 6, 5, true},
		{"somebody killed another that was started before that", 6, 5, false},
		{"and one that was started long before", 6, 0, false},
		{"two at once, the first", 8, 5, true},
		{"two at once, the second", 8, 6, true},
		{"there was no third", 8, 6, false},
		{"a worker was killed before it was started", 9, 9, false},
		{"it was killed after that", 10, 9, true},
	} {
		kills(step.kills)
		if got := o.Killed(step.since); got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
	}
	if err := os.Truncate(filepath.Join(mount, "memory.events"), 0); err != nil { // of a cgroup that is gone nothing can be read
		t.Fatal(err)
	}
	if o.Killed(0) || o.Kills() != 0 {
		t.Error("it knows of kills that nobody counts any more")
	}
}

func FuzzParseKills(f *testing.F) {
	for _, seed := range []string{"oom 1\noom_kill 3\n", "oom_kill 18446744073709551616", "oom_kill \n", "oom_kill_disable 0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, ok := parseKills(text); !ok && n != 0 {
			t.Errorf("%q: %d", text, n)
		}
	})
}
