package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// pieces are lines of which each read takes one.
type pieces int

func (p *pieces) Tail(int) uint64 { return 0 }

func (p *pieces) Read(from uint64, b []byte) (n int, next, lost uint64, changed <-chan struct{}) {
	if *p == 0 {
		return 0, from, 0, nil
	}
	*p--
	return copy(b, "line\n"), from + 5, 0, nil
}

func TestFewFollowersGetMoreAtATimeThanMany(t *testing.T) {
	t.Parallel()
	for followers, want := range map[int32]int{1: logPieces, fewFollow: logPieces, fewFollow + 1: 1, 100: 1} {
		var others atomic.Int32
		others.Store(followers)
		lines := pieces(2 * logPieces)
		rec := httptest.NewRecorder()
		f := &follower{w: rec, rc: http.NewResponseController(rec), all: []source{{name: "a", lines: &lines}}, buf: make([]byte, 8), others: &others}
		if err := f.copy(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(rec.Body.String(), "line"); got != want {
			t.Errorf("%d followers get %d pieces, want %d", followers, got, want)
		}
		lines = 0
		if err := f.copy(); err != nil || strings.Count(rec.Body.String(), "line") != want {
			t.Errorf("with nothing new: %v", err)
		}
	}
}

// parts are what the reads of the lines of a process return, one after another.
type parts []string

func (p *parts) Tail(int) uint64 { return uint64(len(*p)) } // no place, but 0 for none

func (p *parts) Read(from uint64, b []byte) (n int, next, lost uint64, changed <-chan struct{}) {
	if len(*p) == 0 {
		return 0, from, 0, nil
	}
	part := (*p)[0]
	*p = (*p)[1:]
	if part == "lost" {
		return 0, from + 7, 7, nil
	}
	return copy(b, part), from + uint64(len(part)), 0, nil
}

func TestLinesBecomeJSONWithWhatTheySay(t *testing.T) {
	t.Parallel()
	const wrapped = `time=2026-11-28T21:41:13.649Z level=info name=web pid=7 out=stderr msg="<a> out=stdout"`
	lines := parts{wrapped + "\n\nplain out=stdout x\nlo", "ng\nhalf", "lost", "", "time=never out=a\n", "end"}
	var others atomic.Int32
	rec := httptest.NewRecorder()
	enc := json.NewEncoder(rec)
	enc.SetEscapeHTML(false)
	f := &follower{w: rec, rc: http.NewResponseController(rec), all: []source{{name: "web", lines: &lines}}, buf: make([]byte, 256), others: &others, json: enc}
	for len(lines) > 0 {
		if err := f.copy(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.finish(); err != nil {
		t.Fatal(err)
	}
	want := `{"name":"web","time":"2026-11-28T21:41:13.649Z","stream":"stderr","line":` + strconv.Quote(wrapped) + `}
{"name":"web","line":""}
{"name":"web","line":"plain out=stdout x"}
{"name":"web","line":"long"}
{"name":"web","line":"half"}
{"name":"web","lost":7}
{"name":"web","line":"time=never out=a"}
{"name":"web","line":"end"}
`
	if got := rec.Body.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestALineWithoutAnEndIsToldInParts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := &follower{json: json.NewEncoder(&out)}
	s := &source{name: "a"}
	part := bytes.Repeat([]byte("x"), logPiece)
	for range 3 * maxBegun / logPiece {
		if err := f.encode(s, part, 0); err != nil || len(s.begun) > maxBegun {
			t.Fatalf("%d bytes are kept, %v", len(s.begun), err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d parts", n)
	}
}

// desk is an operator of processes by name, with what each has written.
type desk map[string]parts

func (desk) Do(context.Context, Verb, string) ([]string, error) { return nil, nil }
func (desk) Signal(string, string) ([]string, error)            { return nil, nil }
func (desk) Reload(context.Context) (any, error)                { return nil, nil }
func (d desk) Logs(name string) Lines                           { p := d[name]; return &p }
func (d desk) Names(name string) ([]string, error)              { return []string{name}, nil }

func TestWhoAsksForLinesLearnsWhoHasWrittenNone(t *testing.T) {
	t.Parallel()
	talks, silent := parts{"line\n"}, parts{}
	for _, tt := range []struct {
		name, query string
		all         desk
		want        []string
	}{
		{"it has written nothing", "?name=a", desk{"a": silent}, []string{"a"}},
		{"it has, of which none is wanted", "?name=a&lines=0", desk{"a": talks}, nil},
		{"one of two has", "?name=a&name=b", desk{"a": silent, "b": talks}, []string{"a"}},
		{"of all that there are one has", "", desk{"a": silent, "b": talks}, nil},
		{"none of all has", "?format=json", desk{"a": silent, "b": silent}, []string{"a", "b"}},
	} {
		board := status.NewBoard()
		for _, name := range slices.Sorted(maps.Keys(tt.all)) {
			board.Put(status.State{Name: name, Phase: status.Ready})
		}
		rec := httptest.NewRecorder()
		ControlHandler(board, ControlConfig{Operator: tt.all}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/logs"+tt.query, nil))
		if got := rec.Header()["Silent"]; rec.Code != http.StatusOK || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d, %v, want %v", tt.name, rec.Code, got, tt.want)
		}
	}
}
