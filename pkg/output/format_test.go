package output

import (
	"strings"
	"testing"
)

func TestPlainPassesBytesThrough(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"whatever they are", "a\r\n\x00\xff\x1b[0m\n\n", "a\r\n\x00\xff\x1b[0m\n\n"},
		{"with a newline after the last words", "a\nlast words", "a\nlast words\n"},
		{"also a line that is longer than the limit", strings.Repeat("x", 1000) + "\ny\n", strings.Repeat("x", 1000) + "\ny\n"},
		{"also a long line that never ends", strings.Repeat("x", 1000), strings.Repeat("x", 1000) + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pump, read := runToFile(t)
			s, w := pump.feed(StreamConfig{Format: Plain, MaxLineBytes: 100})
			for rest := c.in; rest != ""; {
				n := min(7, len(rest))
				_, _ = w.WriteString(rest[:n])
				rest = rest[n:]
			}
			_ = w.Close()
			pump.drain(s)
			if got := strings.Join(read(), ""); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestALongLineIsSplitAndMarked(t *testing.T) {
	pump, read := runToFile(t)
	s, w := pump.feed(StreamConfig{MaxLineBytes: 1000})
	long := strings.Repeat("ü", 1250) + "end"
	_, _ = w.WriteString(long + "\nshort\n")
	_ = w.Close()
	pump.drain(s)
	got := read()
	joined := strings.Join(msgs(t, got), "|")
	if want := long[:1000] + "|" + long[1000:2000] + "|" + long[2000:] + "|short"; joined != want {
		t.Errorf("%q", joined)
	}
	for i, mark := range []string{" partial=first\n", " partial=middle\n", " partial=last\n", "msg=\"short\"\n"} {
		if !strings.HasSuffix(got[i], mark) {
			t.Errorf("record %d ends with %q, want %q", i, got[i][len(got[i])-20:], mark)
		}
	}
}

func TestTheInterruptedLongPlainLineDoesNotMix(t *testing.T) {
	e := testEncoder()
	a, b := testStream(Plain, nil), testStream(Plain, nil)
	e.line(a, []byte("aaa"), first)
	e.line(a, []byte("aaa"), middle)
	e.line(b, []byte("b"), whole)
	e.line(a, []byte("a"), last)
	e.line(a, []byte("c"), first)
	_ = e.bulk(b, []byte("d\n"))
	if got := string(e.out); got != "aaaaaa\nb\na\nc\nd\n" {
		t.Errorf("%q", got)
	}
}
