package lock

import (
	"strings"
	"testing"
	"time"
)

func TestTTLs(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 10 * time.Second, "200ms": 200 * time.Millisecond, "24h": 24 * time.Hour, "1.5s": 1500 * time.Millisecond} {
		if got, err := parseTTL(text); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"10", "0s", "-1s", "199ms", "24h1ns", "1e99h", "99999999999h", "x", " 1s", "9223372036854775807ns", strings.Repeat("1", 1000)} {
		if got, err := parseTTL(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"a", "a/b//c", "../..", "ключ", "100%", "@x", "@@", "#1", "+/", " ", strings.Repeat("k", 512), "🔒"} {
		if err := checkKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", "a\x00b", "a\nb", "\x7f", "\xff", "\u0085", strings.Repeat("k", 513)} {
		if checkKey(key) == nil {
			t.Errorf("%q is taken", key)
		}
	}
}

func TestBadAccessFiles(t *testing.T) {
	const hash = `"sha256":"0000000000000000000000000000000000000000000000000000000000000000"`
	for text, want := range map[string]string{
		``:                                       "parse JSON: EOF",
		`{"tokens":[null]}`:                      "token 0 is null",
		`{"tokens":[{"nme":"x"}]}`:               `parse JSON: json: unknown field "nme"`,
		`{"tokens":[{}]}`:                        `token 0 (""): it has no name`,
		`{"tokens":[{"name":"x"}]}`:              `token 0 ("x"): give either token or sha256`,
		`{"tokens":[{"name":"x","token":"s"}]}`:  `token 0 ("x"): the token is shorter than 16 bytes`,
		`{"tokens":[{"name":"x",` + hash + `}]}`: `token 0 ("x"): it has no prefixes: give [""] for all keys`,
		`{"tokens":[{"name":"x","prefixes":[""],` + hash + `}]}`:                                      `token 0 ("x"): it has no rights: give some of read, hold, force`,
		`{"tokens":[{"name":"x","prefixes":[""],"rights":["all"],` + hash + `}]}`:                     `token 0 ("x"): "all" is no right: there are read, hold and force`,
		`{"tokens":[{"name":"x","prefixes":[""],"rights":["read"],"sha256":"00"}]}`:                   `token 0 ("x"): sha256 is not 64 hexadecimal digits`,
		`{"tokens":[{"name":"x","prefixes":[""],"rights":["read"],"namespaces":["/"],` + hash + `}]}`: `token 0 ("x"): "/" is no namespace`,
	} {
		_, err := ParseAccess([]byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestRights(t *testing.T) {
	g := &grant{Prefixes: []string{"ci/", "x"}, Rights: []right{hold}, Namespaces: []string{"a", ""}}
	for _, test := range []struct {
		what right
		name Name
		want bool
	}{
		{hold, Name{"a", "ci/1"}, true}, {read, Name{"a", "ci/1"}, true}, {force, Name{"a", "ci/1"}, false},
		{hold, Name{"", "x"}, true}, {hold, Name{"b", "x"}, false}, {hold, Name{"a", "ci"}, false}, {read, Name{"a", ""}, false},
	} {
		if got := g.may(test.what, test.name); got != test.want {
			t.Errorf("%s of %v: %v", test.what, test.name, got)
		}
	}
	if none := (&grant{Prefixes: []string{""}, Rights: []right{read, force}}); none.may(hold, Name{"", "x"}) || none.may(read, Name{"a", "x"}) || !none.may(force, Name{"", "x"}) {
		t.Error("rights of a token without namespaces")
	}
}

// woken tells if a waiter has something to do.
func woken(q *queues, w *waiter) bool {
	select {
	case <-w.wake:
		return q.turn(w)
	default:
		return false
	}
}

func TestOnlyTheFirstOfAQueueAsks(t *testing.T) {
	q := &queues{}
	name := Name{Key: "k"}
	a, b, c := q.join(name), q.join(name), q.join(name)
	if !q.turn(a) || q.turn(b) || q.turn(c) {
		t.Fatal("the first and nobody else asks at once")
	}
	if q.turn(a) {
		t.Error("it asks again without a change")
	}
	freed := func(key string, revision int64) {
		q.observe(Event{Ref: Ref{Name: Name{Key: key}}, Freed: true, Revision: revision})
	}
	freed("other", 5)
	q.observe(Event{Ref: Ref{Name: name, Token: 6}, Revision: 6})
	if woken(q, a) {
		t.Error("another key, or an acquisition, wakes")
	}
	freed("k", 7)
	if !woken(q, a) || woken(q, b) {
		t.Error("a freed key wakes the first alone")
	}
	q.leave(a, Holder{Ref: Ref{name, 9}, Slots: 1})
	if woken(q, b) {
		t.Error("the next asks though the lock was just taken")
	}
	freed("k", 10)
	if !woken(q, b) {
		t.Error("the next is not woken")
	}
	freed("k", 20) // the lock that b is about to get is freed before b leaves
	q.leave(b, Holder{Ref: Ref{name, 15}, Slots: 1})
	if !woken(q, c) {
		t.Error("a freeing that came before the promotion is lost")
	}
	q.observe(Event{Revision: 30})
	if !woken(q, c) {
		t.Error("a reset does not wake")
	}
	q.leave(c, Holder{})
	if q.size() != 0 || len(q.by) != 0 {
		t.Error("something is left")
	}
}

func TestTheNextOfASemaphoreAsksAtOnce(t *testing.T) {
	q := &queues{}
	a, b := q.join(Name{Key: "k"}), q.join(Name{Key: "k"})
	q.turn(a)
	q.leave(a, Holder{Ref: Ref{Name{Key: "k"}, 9}, Slots: 3})
	if !woken(q, b) {
		t.Error("there may be another slot")
	}
}

func FuzzParseAccess(f *testing.F) {
	f.Add([]byte(`{"tokens":[{"name":"x","token":"0123456789abcdef","prefixes":[""],"rights":["read"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAccess(text)
		if err != nil {
			return
		}
		for _, g := range a.byHash {
			if g.Token != "" || len(g.Rights) == 0 || len(g.Prefixes) == 0 {
				t.Errorf("%+v", g)
			}
		}
	})
}
