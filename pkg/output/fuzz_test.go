package output

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzEncoder(f *testing.F) {
	f.Add("key", "value")
	f.Add("", "")
	f.Add("a b=\"%", "\x00\x1f \"\\\x7f\x80ü\xe2\x28\xa1\u2028")
	f.Fuzz(func(t *testing.T, key, value string) {
		key = strings.ReplaceAll(key, "\n", "")
		line := appendValue(append(appendKey(nil, []byte(key)), '='), []byte(value))
		line = append(append(append(line, ` msg="`...), appendEscaped(nil, []byte(value))...), "\"\n"...)
		pairs, err := decodeRecord(string(line))
		if err != nil || len(pairs) != 2 || pairs[0] != (pair{key, value}) || pairs[1].value != value {
			t.Errorf("%q: %q, %v", line, pairs, err)
		}
	})
}

// wrapped returns the decoded record of a line.
func wrapped(t *testing.T, line []byte) []pair {
	e, s := testEncoder(), testStream(Wrap, nil)
	e.begin(s)
	e.line(s, line, whole)
	pairs, err := decodeRecord(string(e.out))
	if err != nil {
		t.Fatalf("%q: %v", e.out, err)
	}
	within := append(bytes.Clone(line), "\n\"= x={}\n,"...) // as it is in the read buffer
	alone := e.out
	e.out = nil
	if e.line(s, within[:len(line)], whole); !bytes.Equal(e.out, alone) {
		t.Errorf("within a buffer, %q becomes %q, else %q", line, e.out, alone)
	}
	return pairs
}

func FuzzLogfmt(f *testing.F) {
	f.Add([]byte(`level=warn msg="disk \"full\"" a=b  c= d="" e="\x1b\u00fc"`))
	f.Add([]byte(`player level=5 reached the boss`))
	f.Add([]byte(`msg=x a%=\ b="\ud800"`))
	f.Add([]byte(`level="`))
	f.Fuzz(func(t *testing.T, line []byte) {
		line = bytes.ReplaceAll(line, newline, nil)
		pairs := wrapped(t, line)
		if len(line) > 0 && line[0] == '{' {
			return
		}
		want, ok := naiveLogfmt(line)
		if !ok {
			if got := values(pairs, "msg"); len(got) != 1 || got[0] != string(line) {
				t.Errorf("text %q became %q", line, got)
			}
			return
		}
		var all []string
		for _, p := range pairs {
			all = append(all, p.value)
		}
		for _, w := range want { // each value is somewhere; those of levels may be normalised
			if _, exact, _ := parseLevel([]byte(w)); !exact && !contains(all, w) {
				t.Errorf("%q lost %q: %q", line, w, pairs)
			}
		}
	})
}

var (
	logfmtPair = regexp.MustCompile(`^ *([^\x00-\x20"=\x7f]+)=(?:"((?:[^"\\]|\\["\\/bfnrtav]|\\u[[:xdigit:]]{4}|\\x[[:xdigit:]]{2}|\\U[[:xdigit:]]{8})*)"|([^\x00-\x20"]*))(?: +|$)`)
	bigEscape  = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*\\U([[:xdigit:]]{8})`)
)

// naiveLogfmt returns the values of a line that is logfmt with a message or a level.
func naiveLogfmt(line []byte) (all []string, ok bool) {
	for rest := line; len(bytes.TrimLeft(rest, " ")) > 0; {
		m := logfmtPair.FindSubmatch(rest)
		if m == nil {
			return nil, false
		}
		for _, escape := range bigEscape.FindAllSubmatch(m[2], -1) {
			if n, err := strconv.ParseUint(string(escape[1]), 16, 32); err != nil || !utf8.ValidRune(rune(n)) {
				return nil, false
			}
		}
		switch string(m[1]) {
		case "msg", "message":
			ok = true
		case "level", "lvl", "severity", "levelname", "log.level":
			_, _, known := parseLevel(append(m[2], m[3]...))
			ok = ok || known
		}
		if m[2] != nil {
			all = append(all, string(unescape(nil, m[2])))
		} else {
			all = append(all, string(m[3]))
		}
		rest = rest[len(m[0]):]
	}
	return all, ok && len(all) <= maxFields
}

func contains(all []string, want string) bool {
	for _, s := range all {
		if s == want {
			return true
		}
	}
	return false
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"level":"info","msg":"a\u00fc\n","n":{"a":[1,"}"]},"x":1e400,"b":true,"z":null}`))
	f.Add([]byte(`{"":"","a b":"\ud83d\ude00","a b":2}`))
	f.Add([]byte(`{"a":"\ud800"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		line = bytes.TrimLeft(bytes.ReplaceAll(line, newline, nil), " \t\r")
		pairs := wrapped(t, line)
		var object map[string]json.RawMessage
		if !utf8.Valid(line) || bytes.Contains(bytes.ToLower(line), []byte(`\ud`)) || json.Unmarshal(line, &object) != nil || len(object) == 0 {
			return // what encoding/json changes is compared nowhere
		}
		for key, raw := range object {
			checkMember(t, pairs, key, raw)
		}
	})
}

// checkMember reports a member of a JSON line of which the record has lost the key or the value.
func checkMember(t *testing.T, pairs []pair, key string, raw json.RawMessage) {
	want := string(raw)
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
	}
	if exactLevel(want) {
		return // may be the level, in its normal form
	}
	var all []string
	for _, p := range pairs {
		all = append(all, p.value)
	}
	if !contains(all, want) {
		t.Errorf("lost %q: %q", want, pairs)
	}
	if key != "msg" && key != "message" && len(values(pairs, key)) == 0 && len(values(pairs, "child_"+key)) == 0 {
		t.Errorf("lost key %q: %q", key, pairs)
	}
}

func exactLevel(s string) bool {
	_, exact, _ := parseLevel([]byte(s))
	return exact
}

type record struct {
	text string
	part part
}

func split(max int, chunks ...[]byte) (recs []record) {
	s := splitter{max: max}
	for _, chunk := range chunks {
		for {
			rec, rest, p, ok := s.next(chunk)
			if !ok {
				break
			}
			recs = append(recs, record{string(rec), p})
			chunk = rest
		}
	}
	if rec, p, ok := s.end(); ok {
		recs = append(recs, record{string(rec), p})
	}
	return recs
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\nthree is long, ünd wide"), 7, uint64(1))
	f.Add([]byte("\n\n\xff\xfe\xfd\xfc\xfb\xfa"), 4, uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, max int, seed uint64) {
		max = 1 + (max&0xff+0x100)%0x100
		rnd := rand.New(rand.NewPCG(seed, 0))
		var chunks [][]byte
		for rest := data; len(rest) > 0; {
			n := 1 + rnd.IntN(len(rest))
			if rnd.IntN(2) == 0 {
				n = min(n, 1+rnd.IntN(4))
			}
			chunks, rest = append(chunks, bytes.Clone(rest[:n])), rest[n:]
		}
		want := split(max, data)
		got := split(max, chunks...)
		if len(got) != len(want) {
			t.Fatalf("%q by %d: %q, at once %q", data, max, got, want)
		}
		var joined strings.Builder
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q by %d: record %d is %q, at once %q", data, max, i, got[i], want[i])
			}
			if len(got[i].text) > max {
				t.Errorf("record %q is longer than %d", got[i].text, max)
			}
			if utf8.Valid(data) && max >= utf8.UTFMax && !utf8.ValidString(got[i].text) {
				t.Errorf("%q is torn in %q", data, got[i].text)
			}
			joined.WriteString(got[i].text)
			if p := got[i].part; p == whole || p == last {
				joined.WriteByte('\n')
			}
		}
		if all := strings.TrimSuffix(string(data), "\n"); strings.TrimSuffix(joined.String(), "\n") != all {
			t.Errorf("%q became %q", data, joined.String())
		}
	})
}
