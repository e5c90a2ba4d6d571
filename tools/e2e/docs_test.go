package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// example is a part of a page whose commands are run, in a machine of their own: its network, its
// processes, its /tmp, /run and /var/lib. So the ports are those of the page and meet nobody.
type example struct {
	page   string    // below the root of the repository
	blocks []string  // how the blocks of commands begin; they are run one after the other in one shell
	files  []string  // of the working directory, by name; the blocks of the page that follow "`name`" or begin with "# name"
	first  string    // commands that the reader has behind them
	tree   bool      // in the repository, else in an empty directory
	needs  []string  // programs that are not ours
	serves []lasting // commands that go on
	change []string  // old, new: what a reader puts in, or what would take too long
	says   []string  // patterns in what all of it prints
}

// lasting is a command that does not end by itself. The reader starts the next one in another terminal.
type lasting struct {
	begins string // how its line begins
	until  string // a pattern in its output; then the next command is run
}

// untried is a block that no test runs as it stands.
type untried struct{ page, begins, why string }

const exampleTime = 60 * time.Second // for one example, on a busy machine

// pages returns what people read, by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) < 3 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = string(content(t, file))
		}
	}
	return all
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// commandsOf returns the blocks of commands of a page.
func commandsOf(text string) []string {
	var all []string
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		if m[1] == "sh" {
			all = append(all, m[2])
		}
	}
	return all
}

// Each block of commands is run by a test, or the table says why not.
func TestEveryCommandOfTheDocsIsAccountedFor(t *testing.T) {
	rows := map[string]int{} // how often the row of a page and a beginning was met
	for _, e := range examples {
		for _, begins := range e.blocks {
			rows[e.page+": "+begins] = 0
		}
	}
	for _, u := range notRun {
		rows[u.page+": "+u.begins] = 0
		if len(u.why) < 10 {
			t.Errorf("%s: there is no reason why %q is not run", u.page, u.begins)
		}
	}
	total := 0
	for page, text := range pages(t) {
		for _, block := range commandsOf(text) {
			total++
			var met []string
			for row := range rows {
				if strings.HasPrefix(page+": "+block, row) {
					rows[row]++
					met = append(met, row)
				}
			}
			if first, _, _ := strings.Cut(block, "\n"); len(met) != 1 {
				t.Errorf("%s: the block that begins with %q has to be in one row of examples or of notRun, and is in %q", page, first, met)
			}
		}
		for _, line := range unfenced(text) {
			t.Errorf("%s: %q is code without a fence: nobody knows whether it is a command", page, line)
		}
	}
	for row, n := range rows {
		if n != 1 {
			t.Errorf("%d blocks begin as this row says: %s", n, row)
		}
	}
	if total < 40 {
		t.Errorf("only %d blocks were found", total)
	}
}

// unfenced returns the first lines of blocks that are code for being indented.
func unfenced(text string) []string {
	var found []string
	before := ""
	for line := range strings.Lines(fenced.ReplaceAllString(text, "")) {
		if strings.HasPrefix(line, "    ") && before == "\n" {
			found = append(found, strings.TrimSpace(line))
		}
		before = line
	}
	return found
}

func TestUnfencedCodeIsFound(t *testing.T) {
	if got := unfenced("Words:\n\n    rm -rf x\n    y\n\n- item\n\n      deeper\n\n```sh\n\n    inside\n```\n"); !slices.Equal(got, []string{"rm -rf x", "deeper"}) {
		t.Errorf("%q", got)
	}
}

func TestTheCommandsOfTheDocs(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	needs(t, "unshare", "mount", "busybox", "bash", "curl")
	all := pages(t)
	tree, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		t.Run(strings.TrimSuffix(filepath.Base(e.page), ".md")+" "+e.blocks[0], func(t *testing.T) {
			t.Parallel()
			needs(t, e.needs...)
			e.try(t, all[e.page], tree, exampleTime)
		})
	}
}

// try runs the commands of an example in a tree, and looks at what they print.
func (e example) try(t *testing.T, text, tree string, most time.Duration, env ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range e.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fileOf(t, text, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	for _, begins := range e.blocks {
		for _, block := range commandsOf(text) {
			if strings.HasPrefix(block, begins) {
				lines = append(lines, commandLines(block)...)
			}
		}
	}
	script, err := e.script(lines)
	if err != nil {
		t.Fatal(err)
	}
	if e.tree {
		for _, name := range []string{"bin", "tmp"} { // places to mount to
			if err := os.MkdirAll(filepath.Join(tree, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", machine+script)
	cmd.Env = environment(append(env, "EXAMPLE_BIN="+bin, "EXAMPLE_DIR="+dir, "EXAMPLE_TREE="+tree, fmt.Sprintf("EXAMPLE_IN_TREE=%v", e.tree),
		"GOWORK=off", "MAKEFLAGS=", "MAKELEVEL=", "PATH=/media:/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH"))...)
	cmd.WaitDelay = patience
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, pattern := range e.says {
		if !regexp.MustCompile(pattern).Match(out) {
			t.Errorf("nothing of what they print matches %q:\n%s", pattern, out)
		}
	}
}

// machine makes the namespaces a machine: the loopback is up, our programs are in /media, the working
// directory is /mnt, or the repository at /srv with our programs in its bin/.
const machine = `set -e -o pipefail
busybox ip link set lo up
mount --bind "$EXAMPLE_BIN" /media
mount --bind "$EXAMPLE_DIR" /mnt
mount --bind "$EXAMPLE_TREE" /srv
for dir in /tmp /run /var/lib; do mount -t tmpfs none "$dir"; done
if "$EXAMPLE_IN_TREE"; then cd /srv; mount --bind /media bin; mount -t tmpfs none tmp; else cd /mnt; fi
n=0
serve() { # COMMAND PATTERN: in another terminal, until its output has the pattern
  n=$((n+1)); local log=/tmp/terminal$n
  bash -c "$1" >"$log" 2>&1 & local pid=$!
  for ((i = 0; i < 600; i++)); do
    if grep -qE -e "$2" "$log"; then return; fi
    if ! kill -0 "$pid" 2>/dev/null && ! grep -qE -e "$2" "$log"; then break; fi
    sleep 0.05
  done
  echo "$1 did not say $2:"; cat "$log"; exit 1
}
`

// script returns a shell script of commands, with those that go on in the background.
func (e example) script(lines []string) (string, error) {
	var b strings.Builder
	b.WriteString(e.first + "\n")
	change := strings.NewReplacer(e.change...)
	served := map[string]bool{}
	for _, line := range lines {
		line = change.Replace(line)
		i := slices.IndexFunc(e.serves, func(s lasting) bool { return strings.HasPrefix(line, s.begins) })
		if i < 0 {
			b.WriteString(line + "\n")
			continue
		}
		served[e.serves[i].begins] = true
		code, _, _ := strings.Cut(line, "  #")
		code = strings.TrimSuffix(strings.TrimSpace(code), "&")
		fmt.Fprintf(&b, "serve %s %s\n", quote(code), quote(e.serves[i].until))
	}
	for _, s := range e.serves {
		if !served[s.begins] && !strings.Contains(e.first, s.begins) {
			return "", fmt.Errorf("no command of %s begins with %q", e.page, s.begins)
		}
	}
	b.WriteString("for log in /tmp/terminal*; do [[ ! -e $log ]] || cat \"$log\"; done\n")
	return b.String(), nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commandLines returns the commands of a block; a backslash at its end continues a line.
func commandLines(block string) []string {
	return strings.Split(strings.TrimSpace(strings.ReplaceAll(block, "\\\n", " ")), "\n")
}

// fileOf returns the block that a page wants to be saved under a name.
func fileOf(t *testing.T, text, name string) string {
	t.Helper()
	for _, m := range fenced.FindAllStringSubmatchIndex(text, -1) {
		before, body := text[:m[0]], text[m[4]:m[5]]
		before = before[strings.LastIndex(strings.TrimRight(before, "\n"), "\n\n")+1:]
		if strings.Contains(before, "`"+name+"`") || strings.HasPrefix(body, "# "+name) {
			return body
		}
	}
	t.Fatalf("the page does not say what %s is", name)
	return ""
}
