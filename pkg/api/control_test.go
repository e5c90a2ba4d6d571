package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
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
		f := &follower{w: rec, rc: http.NewResponseController(rec), all: []source{{"a", &lines, 0}}, buf: make([]byte, 8), others: &others}
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
