package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	execStart = regexp.MustCompile(`(?m)^ExecStart=/usr/bin/(\S+)(.*)$`)
	variable  = regexp.MustCompile(`(?m)^#?([A-Z_]+)=(.*)$`)
	flagName  = regexp.MustCompile(`(?:^|\s)(-[a-z][a-z-]*)`)
)

// What the units of systemd and their settings name exists.
func TestUnitsUseFlagsAndVariablesThatThereAre(t *testing.T) {
	units, err := filepath.Glob(root + "/deployment/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			start := execStart.FindStringSubmatch(string(content(t, unit)))
			if start == nil {
				t.Fatal("it starts nothing")
			}
			help := command(t, nil, filepath.Join(bin, start[1]), "-h").stdout
			flags := start[2]
			settings := strings.TrimSuffix(unit, ".service") + ".env"
			if found, err := filepath.Glob(settings); err == nil && len(found) == 1 {
				for _, m := range variable.FindAllStringSubmatch(string(content(t, settings)), -1) {
					if m[1] == "ARGS" {
						flags += " " + m[2]
					} else if !regexp.MustCompile(`(?m)\b` + m[1] + `\b`).MatchString(help) {
						t.Errorf("%s does not know the variable %s", start[1], m[1])
					}
				}
			}
			for _, m := range flagName.FindAllStringSubmatch(flags, -1) {
				if !regexp.MustCompile(`(?m)^\s*` + m[1] + `\b`).MatchString(help) {
					t.Errorf("%s does not know the flag %s", start[1], m[1])
				}
			}
		})
	}
}

func TestTheConfigOfThePackageOfPrommergeIsTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "prommerge.yaml")
	text := strings.ReplaceAll(string(content(t, root+"/deployment/systemd/prommerge.yaml")), "targets: []\n#", "targets:\n")
	text = strings.ReplaceAll(text, "\n#    url", "\n    url")
	if !strings.Contains(text, "\n  - name: node\n    url") {
		t.Fatalf("its example is not one:\n%s", text)
	}
	for name, config := range map[string]string{"as it is": string(content(t, root+"/deployment/systemd/prommerge.yaml")), "with its example": text} {
		t.Run(name, func(t *testing.T) {
			copyTo(t, write(t, "config", config), file)
			var s *server
			t.Cleanup(func() { // when it has ended
				if s != nil && strings.Contains(s.output.String(), "level=error") {
					t.Error(s.output)
				}
			})
			s = startServer(t, `(listening)`, program("prommerge"), "-config", file, "-listen", "127.0.0.1:0")
		})
	}
}

// verified returns what systemd says of a unit whose program is in our directory, "" if nothing.
func verified(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "ExecStart=/usr/bin/", "ExecStart="+bin+"/")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

func TestSystemdTakesTheUnits(t *testing.T) {
	t.Parallel()
	needs(t, "systemd-analyze")
	units, err := filepath.Glob(root + "/deployment/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		text := string(content(t, unit))
		if says := verified(t, filepath.Base(unit), text); says != "" {
			t.Errorf("%s: systemd says\n%s", unit, says)
		}
		for _, wrong := range []string{"RestartSecs=", "RestartSec=x"} {
			if says := verified(t, "wrong.service", strings.Replace(text, "RestartSec=", wrong, 1)); says == "" {
				t.Errorf("%s: systemd finds nothing wrong with %s", unit, wrong)
			}
		}
	}
}

// SECURITY.md tells people how to close a port: by flags and variables that there are.
func TestTheFlagsOfTheThreatModelExist(t *testing.T) {
	program, found := "", 0
	for line := range strings.Lines(string(content(t, root+"/SECURITY.md"))) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		if name := strings.TrimSpace(cells[1]); name != "" {
			program = name
		}
		for _, m := range regexp.MustCompile("`(-[a-z][a-z-]*|[A-Z]+_[A-Z_]+)[^`]*`").FindAllStringSubmatch(cells[4], -1) {
			found++
			if help := command(t, nil, filepath.Join(bin, program), "-h").stdout; !regexp.MustCompile(`(?m)(^|\s|\$|\()` + m[1] + `\b`).MatchString(help) {
				t.Errorf("%s does not know %s", program, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d flags were found", found)
	}
}

// An upgrade must not leave the old program running, a removal none at all, and neither may start
// what nobody wants. systemctl is played by a script that tells how it was called.
func TestPackagesStartNothingAndStopWhatTheyRemove(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	needs(t, "unshare", "mount")
	played := write(t, "systemctl", "#!/bin/sh\necho \"$*\"\nexit 1\n")
	if err := os.Chmod(played, 0o755); err != nil {
		t.Fatal(err)
	}
	const systemd = `mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$@"`
	for _, unit := range []string{"shared-lock", "metrics-server", "prommerge"} {
		anew := "daemon-reload\ntry-restart " + unit + ".service\n"
		for _, c := range []struct{ name, script, arg, machine, want string }{
			{"installed by dpkg", "postinstall", "configure", systemd, anew},
			{"installed by rpm", "postinstall", "1", systemd, anew},
			{"removed by dpkg", "preremove", "remove", systemd, "disable --now " + unit + ".service\n"},
			{"removed by rpm", "preremove", "0", systemd, "disable --now " + unit + ".service\n"},
			{"upgraded by dpkg", "preremove", "upgrade", systemd, ""},
			{"upgraded by rpm", "preremove", "1", systemd, ""},
			{"installed where systemd does not run", "postinstall", "configure", `mount -t tmpfs none /run && exec "$@"`, ""},
			{"removed where systemd does not run", "preremove", "remove", `mount -t tmpfs none /run && exec "$@"`, ""},
		} {
			t.Run(unit+" "+c.name, func(t *testing.T) {
				script, err := filepath.Abs(root + "/deployment/systemd/" + unit + "." + c.script)
				if err != nil {
					t.Fatal(err)
				}
				path := "PATH=" + filepath.Dir(played) + ":" + os.Getenv("PATH")
				got := command(t, []string{path}, "unshare", "--mount", "sh", "-c", c.machine, "sh", script, c.arg)
				if got.code != 0 || got.stdout != c.want {
					t.Errorf("it ends with %d and calls %q: %s", got.code, got.stdout, got.stderr)
				}
			})
		}
	}
}
