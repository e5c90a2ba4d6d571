package wrapper

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/api"
)

func TestTheControlSocketIsInTheTempDirWhereRunIsNotOurs(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	own := filepath.Join(temp, fmt.Sprintf("process-wrapper-%d", os.Geteuid()), "control.sock")
	if got := controlPaths(""); !slices.Equal(got, []string{controlSocket, own}) {
		t.Fatalf("it is looked for in %v", got)
	}
	log := slog.New(slog.DiscardHandler)
	s, err := listenFirst([]string{"/proc/process-wrapper/control.sock", own}, log) // where nobody makes a directory
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for path, want := range map[string]os.FileMode{own: os.ModeSocket | 0o600, filepath.Dir(own): os.ModeDir | 0o700} {
		if info, err := os.Lstat(path); s.Path() != own || err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", s.Path(), info, err, want)
		}
	}
	// One that another has is what ctl would find: there is no second beside it.
	other := filepath.Join(temp, "other.sock")
	if s, err := listenFirst([]string{own, other}, log); s != nil || !errors.Is(err, api.ErrTaken) {
		t.Errorf("%v, %v", s, err)
	}
	if s, err := listenFirst(nil, log); s != nil || err != nil {
		t.Errorf("none: %v, %v", s, err)
	}
}
