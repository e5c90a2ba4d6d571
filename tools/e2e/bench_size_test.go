//go:build bench

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const binaryBar = 14 << 20 // with everything that it can do

// owners says on whose account a package is linked; the first match counts.
var owners = []struct {
	name string
	re   *regexp.Regexp
}{
	{"ours", regexp.MustCompile(`^github\.com/process-wrapper/`)},
	{"kong", regexp.MustCompile(`^github\.com/alecthomas/`)},
	{"yaml", regexp.MustCompile(`^gopkg\.in/yaml|^go\.yaml\.in/`)},
	{"gopsutil and its parts", regexp.MustCompile(`^github\.com/(shirou|tklauser|power-devops)/`)},
	{"client_golang, without protobuf", regexp.MustCompile(`^github\.com/(prometheus|beorn7|cespare|munnerz|klauspost)/`)},
	{"protobuf, for client_golang", regexp.MustCompile(`^google\.golang\.org/protobuf`)},
	{"other modules", regexp.MustCompile(`^[\w-]+\.[\w.]+/`)},
	{"net/http, TLS and crypto", regexp.MustCompile(`^(net|crypto|vendor|mime|encoding/asn1|encoding/pem|math/big|compress)\b`)},
	{"runtime", regexp.MustCompile(`^(runtime|internal)\b`)},
	{"other std packages", regexp.MustCompile(`^[a-z]`)},
}

// measureSize says what the stripped binary is made of: all of it shared out in proportion to
// machine code. The std packages that only one library needs count as std.
func measureSize(t *testing.T, _ string) {
	binary := program("process-wrapper")
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	symbols := filepath.Join(t.TempDir(), "symbols")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", root, "-trimpath", "-buildvcs=false", "-o", symbols, "./cmd/process-wrapper")
	build.Env = environment("CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with symbols: %v\n%s", err, out)
	}
	nm, err := exec.CommandContext(t.Context(), "go", "tool", "nm", "-size", symbols).Output()
	if err != nil {
		t.Fatal(err)
	}
	sizes, sum := map[string]int{}, 0
	for line := range strings.Lines(string(nm)) {
		owner, size := symbol(line)
		if owner != "" {
			sizes[owner] += size
			sum += size
		}
	}
	tab := newTable("Size of the stripped binary", "", "size", "bar", "verdict")
	tab.add("**process-wrapper**", fmt.Sprintf("%.2f MiB", float64(info.Size())/(1<<20)), mib(binaryBar), verdict(int(info.Size()), binaryBar))
	for _, owner := range slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return sizes[b] - sizes[a] }) {
		tab.add(owner, fmt.Sprintf("%.2f MiB", float64(sizes[owner])/float64(sum)*float64(info.Size())/(1<<20)), "", "")
	}
	tab.print()
}

// symbol returns who owns a line of go tool nm, and its size: address, size, type, name.
func symbol(line string) (owner string, size int) {
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[2] != "T" && fields[2] != "t" {
		return "", 0
	}
	size, err := strconv.Atoi(fields[1])
	if err != nil {
		return "", 0
	}
	name := strings.TrimPrefix(fields[3], "type:.eq.") // a compiled comparison
	for _, o := range owners {
		if o.re.MatchString(name) {
			return o.name, size
		}
	}
	return "", 0
}
