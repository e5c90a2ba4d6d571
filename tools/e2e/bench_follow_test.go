//go:build bench

package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// pacedLines are 100 MB a second.
const pacedLines = 1_000_000

// measureFollowers takes the rate of a process that writes 100 MB/s, alone and while 100 clients follow its log.
func measureFollowers(t *testing.T, load string) {
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	w := start(t, options{config: fmt.Sprintf("- name: flood\n  entrypoint: %s\n  args: [pace, '%d']\n", load, pacedLines), stdout: sink})
	w.ready()
	const during = 5 * time.Second
	alone := w.logRate(during)
	w.follow100()
	followed := w.logRate(during)
	tab := newTable("A process that writes 100 MB/s, followed by 100 clients, of which 10 read", "lines/s alone", "followed", "ratio", "bar", "verdict")
	ratio := followed / alone
	tab.add(fmt.Sprintf("%.3f M", alone/1e6), fmt.Sprintf("%.3f M", followed/1e6), fmt.Sprintf("%.3f", ratio), "0.9", atLeast(ratio, 0.9))
	tab.print()
}
