package spec

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSizesAreReadAsKubernetesDoes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "+5": 5, "1k": 1000, "1K": 1000, "1kB": 1000, "1Ki": 1024, "1KiB": 1024, "256KiB": 256 << 10,
		"1.5Gi": 3 << 29, "0.5": -1, "1500m": 2, "100m": -1, "1e3": 1000, "1E3": 1000, "1E": 1e18, "4Ei": -1, "129M": 129e6, "1B": 1, "10 MiB": -1,
		"": -1, ".": -1, "Mi": -1, "-1": -1, "1e-3": -1, "1e99": -1, "0x10": -1, "1/2": -1, "1_000": -1, "1Mib": -1, "1ki": 1024, "NaN": -1, "Inf": -1,
		strings.Repeat("9", 41): -1, "99999999999999999999": -1, "1e3k": -1, "1u": -1,
	} {
		got, err := parseSize(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d, want %d", in, got, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("1.5Gi")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

func TestSignalsAreNamesOrNumbers(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "term": syscall.SIGTERM, "Sigusr1": syscall.SIGUSR1, "9": syscall.SIGKILL, "64": 64, "RTMIN": 34,
		"SIGRTMIN+3": 37, "SIGRTMAX": 64, "RTMAX-1": 63, "RTMIN-1": 0, "RTMAX+1": 0, "RTMINx": 0, "SIG9": 0, "SIGRTMIN+999999999999": 0,
		"0": 0, "65": 0, "-1": 0, "": 0, "SIG": 0, "TERMINATE": 0,
	} {
		got, ok := ParseSignal(in)
		if ok != (want != 0) || ok && got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, ok, want)
		}
		if again, _ := ParseSignal(SignalName(got)); ok && again != got {
			t.Errorf("%s is not read back", SignalName(got))
		}
	}
	if got := SignalName(99); got != "99" {
		t.Error(got)
	}
}

func TestTheNearestNameIsFound(t *testing.T) {
	known := []string{"readiness", "replicas", "restartPolicy", "dependsOn", "env", "envs", "dir", "name"}
	for got, want := range map[string]string{
		"readyness": "readiness", "redainess": "readiness", "depends_on": "dependsOn", "DependsOn": "dependsOn", "replica": "replicas",
		"naem": "name", "evns": "envs", "restart": "restartPolicy", "zzz": "", "": "", strings.Repeat("a", 1000): "", "ünïcödé": "",
	} {
		if best := nearest(got, known); best != want {
			t.Errorf("%q: %q, want %q", got, best, want)
		}
	}
}

func TestNoGoldenErrorShowsASecret(t *testing.T) {
	secrets := 0
	for _, path := range inputs(t, "bad", 100) {
		input, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		message, err := os.ReadFile(path + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(input), "ter2") {
			secrets++
		}
		if strings.Contains(string(message), "ter2") {
			t.Errorf("%s: %s", filepath.Base(path), message)
		}
	}
	if secrets < 8 {
		t.Errorf("only %d files hold a secret", secrets)
	}
}

func TestOddInputEndsInTime(t *testing.T) {
	for name, text := range map[string]string{
		"deep lists":          strings.Repeat("[", 20_000),
		"deep maps":           strings.Repeat("{a: ", 12_000),
		"deep JSON":           strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000),
		"deep blocks":         strings.Repeat("- ", 20_000),
		"many comments":       strings.Repeat("# a comment\n", 10_000) + "[]",
		"many documents":      strings.Repeat("---\n", 5_000),
		"a long line":         "- name: " + strings.Repeat("a", 1<<18),
		"many keys":           "- name: a\n" + strings.Repeat("  k: v\n", 5_000),
		"many distinct keys":  "- {" + strings.Repeat("a, ", 10_000) + "}",
		"an unclosed quote":   "- name: \"" + strings.Repeat("a\n", 100_000),
		"many quotes":         "[" + strings.Repeat(`"a",`, 20_000),
		"many odd references": "- {name: a, command: [x, \"" + strings.Repeat("$(", 50_000) + "\"]}",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			c, err := Parse("x", []byte(text), Options{})
			if (c == nil) == (err == nil) {
				t.Error("wants a config or an error")
			}
			t.Log(time.Since(start))
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
