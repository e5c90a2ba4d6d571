package output

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// rest reads from a place to the end, in pieces.
func rest(r *Ring, from uint64, piece int) (text string, lost uint64) {
	b := make([]byte, piece)
	for {
		n, next, gone, _ := r.Read(from, b)
		lost += gone
		if n == 0 {
			return text, lost
		}
		text += string(b[:n])
		from = next
	}
}

func TestARingKeepsTheLatestWholeLines(t *testing.T) {
	var rings Rings
	r := rings.New()
	var all strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", random.IntN(60)))
		all.WriteString(line)
		r.write([]byte(line))
		if i%997 != 0 {
			continue
		}
		text, lost := rest(r, 0, 1000)
		if !strings.HasSuffix(all.String(), text) || uint64(all.Len()) != lost+uint64(len(text)) {
			t.Fatalf("after line %d: %d bytes lost, %d there, %d in all", i, lost, len(text), all.Len())
		}
		if !strings.HasPrefix(text, "line ") {
			t.Fatalf("after line %d: begins with %.20q", i, text)
		}
		if all.Len() > 2*RingBytes && len(text) < RingBytes-100 {
			t.Fatalf("after line %d: only %d bytes are kept", i, len(text))
		}
	}
	if len(r.buf) != RingBytes || rings.used.Load() != RingBytes {
		t.Errorf("the ring has %d bytes, %d are counted", len(r.buf), rings.used.Load())
	}
	r.Close()
	if rings.used.Load() != 0 {
		t.Errorf("%d bytes are counted after Close", rings.used.Load())
	}
}

func TestTailIsTheLastLines(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		lines int
		want  string
	}{
		"none of some":              {"a\nb\n", 0, ""},
		"one of some":               {"a\nb\n", 1, "b\n"},
		"two of three":              {"a\nb\nc\n", 2, "b\nc\n"},
		"more than there are":       {"a\nb\n", 5, "a\nb\n"},
		"an unterminated one":       {"a\nb\nc", 2, "b\nc"},
		"empty lines count":         {"a\n\n\n", 2, "\n\n"},
		"nothing":                   {"", 3, ""},
		"one that is longer than 4": {strings.Repeat("x", 9000) + "\ny\n", 1, "y\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := new(Rings).New()
			r.write([]byte(c.text))
			if got, _ := rest(r, r.Tail(c.lines), 100); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTailOfARingThatWentRound(t *testing.T) {
	r := new(Rings).New()
	for i := range 50000 {
		r.write(fmt.Appendf(nil, "%07d\n", i))
	}
	if got, lost := rest(r, r.Tail(3), 100); got != "0049997\n0049998\n0049999\n" || lost != 0 {
		t.Errorf("got %q, %d lost", got, lost)
	}
	text, _ := rest(r, r.Tail(1<<30), 4096)
	if n := strings.Count(text, "\n"); n < RingBytes/8-1 || !strings.HasSuffix(text, "0049999\n") {
		t.Errorf("%d lines", n)
	}
}

func TestRingsShareTheirMemory(t *testing.T) {
	var rings Rings
	line := bytes.Repeat([]byte("y"), 1023)
	line = append(line, '\n')
	var all []*Ring
	for range 200 { // of which 64 have room for all they may keep
		r := rings.New()
		for range 300 {
			r.write(line)
		}
		all = append(all, r)
	}
	if used := rings.used.Load(); used > RingsBytes || used < RingsBytes*9/10 {
		t.Errorf("%d bytes are used", used)
	}
	if text, lost := rest(all[199], 0, 4096); text != "" || lost != 300*1024 {
		t.Errorf("the last one keeps %d bytes and lost %d", len(text), lost)
	}
	all[0].Close()
	all[199].write(line) // for which there is room now
	all[199].write(line)
	if text, lost := rest(all[199], 0, 4096); text != string(line)+string(line) || lost != 300*1024 {
		t.Errorf("the last one keeps %d bytes now and lost %d", len(text), lost)
	}
	for _, r := range all[1:] {
		r.Close()
	}
	if used := rings.used.Load(); used != 0 {
		t.Errorf("%d bytes are used at the end", used)
	}
}

func TestAReaderIsToldOfMore(t *testing.T) {
	r := new(Rings).New()
	_, at, _, changed := r.Read(0, make([]byte, 10))
	select {
	case <-changed:
		t.Fatal("told of nothing")
	default:
	}
	r.write([]byte("x\n"))
	<-changed
	if text, _ := rest(r, at, 10); text != "x\n" {
		t.Errorf("got %q", text)
	}
}

func TestAPumpKeepsInTheRingWhatItWrites(t *testing.T) {
	rings := new(Rings)
	ring := rings.New()
	var in strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	in.WriteString("last words")
	p, lines := runToFile(t)
	s, w := p.feed(StreamConfig{Ring: ring})
	if _, err := w.WriteString(in.String()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p.drain(s)
	out := strings.Join(lines(), "")
	kept, lost := rest(ring, 0, 8192)
	if !strings.HasSuffix(out, kept) || lost+uint64(len(kept)) != uint64(len(out)) || !strings.Contains(kept, `msg="last words"`) {
		t.Errorf("%d bytes came out, %d are kept, %d lost", len(out), len(kept), lost)
	}
}
