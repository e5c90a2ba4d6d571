package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAServerComplainsOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		q := &quiet{log: slog.New(slog.NewTextHandler(&out, nil))}
		for i := range 1201 { // two minutes and a moment
			fmt.Fprintf(q, "http: Accept error: too many open files; retrying in %dms\n%s", i, strings.Repeat("x", 1<<10))
			time.Sleep(100 * time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || out.Len() > 1500 {
			t.Fatalf("%d lines, %d bytes:\n%s", len(lines), out.Len(), out.String())
		}
		for i, unsaid := range []string{"unsaid=0", "unsaid=599", "unsaid=599"} {
			if !strings.Contains(lines[i], unsaid) || !strings.Contains(lines[i], "too many open files") {
				t.Errorf("line %d: %s", i, lines[i])
			}
		}
	})
}
