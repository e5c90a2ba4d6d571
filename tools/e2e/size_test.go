package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

var record = flag.Bool("record", false, "record the sizes of the binaries")

// What process-wrapper may have, in bytes, whatever is recorded.
const (
	plainBar  = 14 << 20
	packedBar = 5.5 * (1 << 20)
)

// recordedSizes holds bytes of the stripped binaries for linux/amd64; make sizes writes it.
const recordedSizes = "testdata/sizes.json"

func TestBinariesDoNotGrowUnnoticed(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("sizes are recorded for amd64")
	}
	sizes := map[string]int64{}
	for _, name := range []string{"process-wrapper", "shared-lock", "metadata-mock", "metrics-server", "prommerge"} {
		sizes[name] = size(t, filepath.Join(bin, name))
	}
	if *record {
		text, err := json.MarshalIndent(sizes, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(recordedSizes, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(recordedSizes)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]int64{}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	for name, now := range sizes {
		if err := grown(name, recorded[name], now); err != nil {
			t.Error(err)
		}
	}
	if got := sizes["process-wrapper"]; got > plainBar {
		t.Errorf("process-wrapper has %d bytes, more than %d", got, plainBar)
	}
}

// grown says whether a binary is more than 5 % larger than it was.
func grown(name string, recorded, now int64) error {
	if now*100 <= recorded*105 {
		return nil
	}
	return fmt.Errorf("%s grew from %d to %d bytes, more than 5 %%: find out what does it (make bench BENCH=size); if it is worth it, run make sizes", name, recorded, now)
}

func TestGrowthIsToldFromNoise(t *testing.T) {
	for _, test := range []struct {
		name          string
		recorded, now int64
		bad           bool
	}{
		{"smaller", 1000, 500, false},
		{"5 % larger", 1000, 1050, false},
		{"a little more than 5 % larger", 1000, 1051, true},
		{"not recorded", 0, 1000, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := grown("it", test.recorded, test.now); (err != nil) != test.bad {
				t.Error(err)
			}
		})
	}
}

func TestPackedBinaries(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("upx"); err != nil {
		t.Skip("upx is not installed, and Debian 12 has it in backports only; see make upx")
	}
	dir := t.TempDir()
	if got := command(t, nil, root+"/scripts/upx.sh", filepath.Join(bin, "process-wrapper"), dir); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	nrv, lzma := size(t, filepath.Join(dir, "process-wrapper")), size(t, filepath.Join(dir, "process-wrapper-lzma"))
	t.Logf("NRV %d, LZMA %d bytes", nrv, lzma)
	if nrv > packedBar || lzma > nrv {
		t.Errorf("packed it has %d bytes by NRV and %d by LZMA; %.0f is the most", nrv, lzma, packedBar)
	}
	for _, name := range []string{"process-wrapper", "process-wrapper-lzma"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runsPacked(t, filepath.Join(dir, name))
		})
	}
}

func TestPackingSaysHowUPXIsHad(t *testing.T) {
	t.Parallel()
	got := command(t, []string{"UPX=no-such-program"}, root+"/scripts/upx.sh", filepath.Join(bin, "process-wrapper"), t.TempDir())
	if got.code != 1 || !strings.Contains(got.stderr, "apt-get install upx-ucl") {
		t.Errorf("%+v", got)
	}
}

// runsPacked gives a packed binary what the stub of upx has to hand on: many variables, the path
// of the program, which install and the fork of a restricted process need.
func runsPacked(t *testing.T, program string) {
	const many = 3000
	var env []string
	for i := range many {
		env = append(env, fmt.Sprintf("PACKED_%d=%s", i, strings.Repeat("x", 100)))
	}
	count := script("counts", `env | grep -c '^PACKED_[0-9]*=x\{100\}$'; exec sleep 1000`, "noNewPrivs: true", "umask: '0027'")
	w := start(t, options{program: program, config: count, env: env})
	w.ready()
	w.stdout.waitFor(t, regexp.MustCompile(fmt.Sprintf(`msg="?%d\b`, many)))
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	target := filepath.Join(t.TempDir(), "copy")
	if got := command(t, env, program, "install", target); got.code != 0 || size(t, target) != size(t, program) {
		t.Errorf("install: %+v", got)
	}
	if got := command(t, env, target, "-version"); got.code != 0 || !versionLine.MatchString(got.stdout) {
		t.Errorf("the installed one says %+v", got)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
