package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with a screen, on which a command runs.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File // held so that its settings can be looked at when the command is gone
	before unix.Termios
	exited chan struct{}
	err    error // of cmd.Wait, once exited is closed

	mu      sync.Mutex // guards what follows
	screen  *screen
	changed chan struct{} // closed when more has come
}

// onTerminal runs a command on a terminal of its own, until the test ends.
func onTerminal(t *testing.T, columns, lines int, env []string, args ...string) *terminal {
	t.Helper()
	term := &terminal{t: t, screen: newScreen(columns, lines), changed: make(chan struct{}), exited: make(chan struct{})}
	term.open()
	term.resize(columns, lines)
	term.before = term.settings()
	term.cmd = exec.Command(args[0], args[1:]...)
	term.cmd.Env = append(environment("TERM=xterm"), env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = term.slave, term.slave, term.slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		term.read()
	}()
	go func() {
		term.err = term.cmd.Wait()
		close(term.exited)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill() // it may have ended
		<-term.exited
		term.slave.Close()
		term.master.Close()
		<-reading
		if t.Failed() {
			t.Logf("the screen:\n%s", term.text())
		}
	})
	return term
}

// open makes the pair of files.
func (term *terminal) open() {
	term.t.Helper()
	var err error
	if term.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0); err != nil {
		term.t.Fatal(err)
	}
	n := 0
	term.control(term.master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if term.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) control(file *os.File, do func(fd int) error) {
	term.t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		term.t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		term.t.Fatal(err, failed)
	}
}

// resize gives it another size, of which the kernel tells whoever is in its foreground.
func (term *terminal) resize(columns, lines int) {
	term.t.Helper()
	term.mu.Lock()
	term.screen.resize(columns, lines)
	term.mu.Unlock()
	term.control(term.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(lines), Col: uint16(columns)})
	})
}

// settings are those of the line: whether it echoes, and the like.
func (term *terminal) settings() (is unix.Termios) {
	term.t.Helper()
	term.control(term.slave, func(fd int) error {
		got, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			is = *got
		}
		return err
	})
	return is
}

func (term *terminal) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := term.master.Read(buf)
		term.mu.Lock()
		term.screen.write(buf[:n])
		close(term.changed)
		term.changed = make(chan struct{})
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// press types keys.
func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// text is what is seen.
func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.String()
}

// shows waits until what is seen matches.
func (term *terminal) shows(pattern string) []string {
	term.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	deadline := time.After(patience)
	for {
		term.mu.Lock()
		text, changed := term.screen.String(), term.changed
		term.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-deadline:
			term.t.Fatalf("the screen does not show %q within %v", pattern, patience)
		}
	}
}

// restored waits for the end of the command, and wants the terminal to be as it was.
func (term *terminal) restored(want int) {
	term.t.Helper()
	select {
	case <-term.exited:
	case <-time.After(patience):
		term.t.Fatalf("it did not end within %v", patience)
	}
	if got := code(term.t, term.err); got != want {
		term.t.Errorf("exit code %d, want %d", got, want)
	}
	if now := term.settings(); now != term.before {
		term.t.Errorf("the line is left as %+v, it was %+v", now, term.before)
	}
	eventually(term.t, "the screen is as before", func() error {
		term.mu.Lock()
		defer term.mu.Unlock()
		if s := term.screen; s.alternate != nil || s.hidden || s.pen != "" {
			return fmt.Errorf("alternate %v, cursor hidden %v, pen %q", s.alternate != nil, s.hidden, s.pen)
		}
		return nil
	})
}

// screen understands what our programs and shells say to a terminal: a part of xterm.
type screen struct {
	columns, lines int
	cells          [][]cell
	x, y           int
	pen            string   // what is on of SGR, "" for nothing
	alternate      [][]cell // the main screen, while the other one is shown
	hidden         bool     // the cursor
	rest           []byte   // of a sequence whose end has not come
}

type cell struct {
	r   rune
	pen string
}

func newScreen(columns, lines int) *screen {
	s := &screen{}
	s.resize(columns, lines)
	return s
}

func blank(columns, lines int) [][]cell {
	all := make([][]cell, lines)
	for i := range all {
		all[i] = make([]cell, columns)
	}
	return all
}

// resize keeps what there is room for.
func (s *screen) resize(columns, lines int) {
	now := blank(columns, lines)
	for i := range min(lines, len(s.cells)) {
		copy(now[i], s.cells[i])
	}
	s.columns, s.lines, s.cells = columns, lines, now
	s.x, s.y = min(s.x, columns-1), min(s.y, lines-1)
}

// String is what is seen, without blanks at the ends of lines.
func (s *screen) String() string {
	var b strings.Builder
	for _, line := range s.cells {
		var text strings.Builder
		for _, c := range line {
			text.WriteRune(max(c.r, ' '))
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
	return b.String()
}

var (
	csi = regexp.MustCompile(`^\x1b\[([?>=]?)([0-9;:]*)[ -/]*([@-~])`)
	osc = regexp.MustCompile(`^\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)`)
	two = regexp.MustCompile(`^\x1b(?:[()#%][ -~]|[^\[\]P_^X()#%])`)
)

func (s *screen) write(b []byte) {
	b = append(s.rest, b...)
	for len(b) > 0 {
		n := s.take(b)
		if n == 0 {
			break
		}
		b = b[n:]
	}
	s.rest = bytes.Clone(b)
}

// take does what stands first, and returns how long it is; 0 when its end is missing.
func (s *screen) take(b []byte) int {
	switch {
	case b[0] == 0x1b:
		if m := csi.FindSubmatch(b); m != nil {
			s.control(string(m[1]), string(m[2]), m[3][0])
			return len(m[0])
		}
		if m := osc.Find(b); m != nil {
			return len(m)
		}
		return len(two.Find(b))
	case b[0] < ' ' || b[0] == 0x7f:
		s.move(b[0])
		return 1
	case !utf8.FullRune(b):
		return 0
	}
	r, n := utf8.DecodeRune(b)
	if s.x == s.columns {
		s.x = 0
		s.newline()
	}
	s.cells[s.y][s.x] = cell{r, s.pen}
	s.x++
	return n
}

func (s *screen) move(b byte) {
	switch b {
	case '\r':
		s.x = 0
	case '\n':
		s.newline()
	case '\b':
		s.x = max(min(s.x, s.columns-1)-1, 0)
	case '\t':
		s.x = min(s.x/8*8+8, s.columns-1)
	}
}

func (s *screen) newline() {
	if s.y++; s.y == s.lines {
		s.y--
		s.cells = append(s.cells[1:], make([]cell, s.columns))
	}
}

func (s *screen) control(private, text string, final byte) {
	var n []int
	for part := range strings.SplitSeq(text, ";") {
		v, _ := strconv.Atoi(part) // none is 0
		n = append(n, v)
	}
	one := max(n[0], 1)
	if private != "" {
		s.mode(private+text, final)
		return
	}
	switch final {
	case 'H', 'f':
		s.y, s.x = min(one, s.lines)-1, 0
		if len(n) > 1 {
			s.x = min(max(n[1], 1), s.columns) - 1
		}
	case 'A':
		s.y = max(s.y-one, 0)
	case 'B':
		s.y = min(s.y+one, s.lines-1)
	case 'C':
		s.x = min(s.x+one, s.columns-1)
	case 'D':
		s.x = max(min(s.x, s.columns-1)-one, 0)
	case 'G':
		s.x = min(one, s.columns) - 1
	case 'P':
		line := s.cells[s.y]
		copy(line[s.x:], append(line[min(s.x+one, s.columns):], make([]cell, one)...))
	case 'K':
		s.erase(n[0], s.y)
	case 'J':
		s.clear(n[0])
	case 'm':
		s.paint(text)
	}
}

// paint turns the pen on or, with nothing or 0, off.
func (s *screen) paint(text string) {
	if s.pen = strings.Trim(s.pen+";"+text, ";"); text == "" || strings.HasPrefix(text, "0") {
		s.pen = strings.Trim(strings.TrimPrefix(text, "0"), ";")
	}
}

func (s *screen) mode(text string, final byte) {
	switch {
	case text == "?25":
		s.hidden = final == 'l'
	case text == "?1049" && final == 'h' && s.alternate == nil:
		s.alternate, s.cells = s.cells, blank(s.columns, s.lines)
	case text == "?1049" && final == 'l' && s.alternate != nil:
		s.cells, s.alternate = s.alternate, nil
		s.resize(s.columns, s.lines)
	}
}

// erase clears the rest of a line, its begin, or all of it.
func (s *screen) erase(how, y int) {
	line, x := s.cells[y], min(s.x, s.columns)
	switch how {
	case 0:
		clear(line[x:])
	case 1:
		clear(line[:min(x+1, s.columns)])
	default:
		clear(line)
	}
}

func (s *screen) clear(how int) {
	for y := range s.cells {
		switch {
		case y == s.y:
			s.erase(how, y)
		case how == 0 && y > s.y, how == 1 && y < s.y, how > 1:
			clear(s.cells[y])
		}
	}
}

func TestTheScreenOfATestIsATerminal(t *testing.T) {
	for said, want := range map[string]string{
		"one\r\ntwo":                        "one\ntwo\n\n",
		"abcdefghijkl":                      "abcdefgh\nijkl\n\n",
		"a\r\nb\r\nc\r\nd":                  "b\nc\nd\n",
		"\x1b[2;3Hx\x1b[Hy":                 "y\n  x\n\n",
		"abcdef\r\x1b[2C\x1b[K":             "ab\n\n\n",
		"a\r\nb\r\nc\x1b[2;1H\x1b[J":        "a\n\n\n",
		"main\x1b[?1049hother\x1b[?1049l":   "main\n\n\n",
		"\x1b]0;title\x07a\x1b(Bb\x1b[31mc": "abc\n\n\n",
		"ab\bc\x1b[1;1H\x1b[Pé":             "é\n\n\n",
	} {
		whole, parts := newScreen(8, 3), newScreen(8, 3)
		whole.write([]byte(said))
		for i := range len(said) {
			parts.write([]byte(said[i : i+1]))
		}
		if got := whole.String(); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
		if got := parts.String(); got != whole.String() {
			t.Errorf("%q in parts: %q", said, got)
		}
	}
}
