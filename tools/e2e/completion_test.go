package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// shells say how each is started on a terminal, with nothing of the user's own, and what makes it complete our commands.
var shells = []struct {
	name    string
	args    []string
	prepare []string
}{
	{"bash", []string{"bash", "--norc", "--noprofile", "-i"}, []string{`PS1='> '`, `eval "$(process-wrapper completion bash)"`}},
	{"zsh", []string{"zsh", "-f", "-i"}, []string{`PS1='> '`, `autoload -Uz compinit && compinit -u -D`, `eval "$(process-wrapper completion zsh)"`}},
	{"zsh, from a file of its path", []string{"zsh", "-f", "-i"}, []string{
		`PS1='> '; mkdir functions; process-wrapper completion zsh >functions/_process-wrapper; fpath=($PWD/functions $fpath)`, `autoload -Uz compinit && compinit -u -D`,
	}},
	{"fish", []string{"fish", "--no-config", "--interactive"}, []string{
		`function fish_prompt; echo -n '> '; end; function fish_right_prompt; end; set -g fish_autosuggestion_enabled 0`, `process-wrapper completion fish | source`,
	}},
}

// emptied makes a directory with nothing but the files of these names.
func emptied(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestShellsCompleteCommandsAndNames(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("alpha", forever) + script("beta-one", forever) + script("beta-two", forever)})
	w.ready()
	ctl := "process-wrapper ctl -control-socket " + w.socket + " "
	shown := `^> ` + regexp.QuoteMeta(ctl)
	cases := []struct {
		typed string
		want  []string
	}{
		{ctl + "resta\t", []string{shown + `restart ?$`}},
		{ctl + "restart al\t", []string{shown + `restart alpha ?$`}}, // a file begins so too
		{ctl + "restart beta-\t\t", []string{`beta-one\s+beta-two`}},
		{"process-wrapper ctl \t\t", []string{`\sevents\s`, `\slogs\s`, `\sreload\s`, `\srestart\s`, `\ssignal\s`, `\sstart\s`, `\sstatus\s`, `\sstop\s`, `\stop\s`}},
		{"process-wrapper -config con\t", []string{`^> process-wrapper -config config\.yaml ?$`}},
	}
	for _, shell := range shells {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			needs(t, shell.args[0])
			term := shellOn(t, shell.args, shell.prepare)
			for _, c := range cases {
				term.press(c.typed)
				for _, want := range c.want {
					term.shows(want)
				}
				term.press("\x15clear\r") // what was typed is not run
				term.shows(`\A> ?\n+\z`)
			}
		})
	}
}

// shellOn starts a shell that knows our commands, and waits until it has read what prepares it.
func shellOn(t *testing.T, args, prepare []string) *terminal {
	t.Helper()
	home := emptied(t, "alphabet", "config.yaml")
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_DATA_HOME=" + home, "LC_ALL=C.UTF-8"}
	term := onTerminal(t, 140, 30, env, append([]string{"/bin/sh", "-c", `cd "$HOME" && exec "$@"`, "sh"}, args...)...)
	for _, line := range append(prepare, "clear; echo re''ady") {
		term.press(line + "\r")
	}
	term.shows(`^ready\n> ?\n`)
	term.press("clear\r")
	term.shows(`\A> ?\n+\z`)
	return term
}
