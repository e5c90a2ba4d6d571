package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// artefacts is where screenshots go that people may want to see: $CI_ARTEFACTS, else a directory
// of the test.
func artefacts(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CI_ARTEFACTS")
	if dir == "" {
		return t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// browser starts a headless Chromium that ends with the test.
func browser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	needs(t, "chromium")
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), append(flags, more...)...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*patience)
	t.Cleanup(cancel)
	return ctx
}

// do runs steps in the browser.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// phasesOfAll is a config in which processes are in many phases.
func phasesOfAll(n int) string {
	text := script("ready", forever) + script("job", "exit 0", "restartPolicy: onFailure") + script("failed", "exit 3", "restartPolicy: never") +
		script("crashing", "exit 3", "backoff: {initial: 1h, max: 1h}") +
		script("unready", forever, `readiness: {delay: 0s, period: 200ms, failureThreshold: 100000, startupDeadline: 1h, exec: {command: {entrypoint: /bin/sh, args: [-c, "echo '<b>no</b> & more'; exit 1"]}}}`) +
		script("waiting", forever, "dependsOn: [unready]") + script("skipped", forever)
	for i := range n {
		text += script(fmt.Sprintf("worker-%d", i), forever)
	}
	return text
}

func TestPageInABrowser(t *testing.T) {
	for _, n := range []int{1, 20, 200} {
		w := start(t, options{config: phasesOfAll(n), args: []string{"-skip-commands", "skipped"}})
		last := fmt.Sprintf("worker-%d", n-1)
		w.until(last, "is ready", func(s state) bool { return s.Ready })
		w.until("unready", "says why", func(s state) bool { return len(s.Probes) == 1 && s.Probes[0].Error != "" })
		shots := artefacts(t)
		for scheme, flag := range map[string]string{"light": "preferredColorScheme=1", "dark": "preferredColorScheme=0"} {
			ctx := browser(t, chromedp.Flag("blink-settings", flag))
			for _, width := range []int64{480, 1300} {
				var text string
				var shot []byte
				do(t, ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(w.url("/")),
					chromedp.WaitVisible("#live table, #live p"), chromedp.Text("#live", &text), chromedp.FullScreenshot(&shot, 100))
				for _, want := range []string{"not ready", "ready", "completed", "failed", "backoff", "waiting", "skipped", last, "<b>no</b> & more", "exited with code 3"} {
					if !strings.Contains(text, want) {
						t.Errorf("%d processes, %d wide: %q is missing", n, width, want)
					}
				}
				name := fmt.Sprintf("page-%d-%s-%d.png", n, scheme, width)
				if err := os.WriteFile(filepath.Join(shots, name), shot, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.stop()
	}
}

func TestPageRefreshesItselfAndRunsNothingElse(t *testing.T) {
	w := start(t, options{config: script("web", forever)})
	w.ready()
	ctx := browser(t)
	var complaints int
	do(t, ctx, chromedp.Navigate(w.url("/")), chromedp.WaitVisible("#live table"))
	w.must("stop", "web")
	waits, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	do(t, waits, chromedp.Poll(`document.querySelector("#live").textContent.includes("stopped by an operator")`, nil))
	// What the policy forbids does not run.
	do(t, ctx, chromedp.Evaluate(`document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.broken=1'>")`, nil),
		chromedp.Sleep(500*time.Millisecond), chromedp.Evaluate("window.broken ? 1 : 0", &complaints))
	if complaints != 0 {
		t.Error("a handler that was put into the page ran")
	}
	w.must("start", "web")
	do(t, waits, chromedp.Poll(`!document.querySelector("#live").textContent.includes("not ready")`, nil))
}

func TestPageWorksWithoutScripts(t *testing.T) {
	w := start(t, options{config: script("web", forever)})
	w.ready()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url("/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	response, err := (&http.Client{Timeout: patience}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text := make([]byte, 1<<16)
	n, _ := response.Body.Read(text) // the page is small
	for _, want := range []string{`<noscript><meta http-equiv="refresh"`, `<th scope="row">web</th>`, ">ready</span>"} {
		if !strings.Contains(string(text[:n]), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestOpenPagesAreBounded(t *testing.T) {
	w := start(t, options{config: script("web", forever)})
	w.ready()
	client := &http.Client{Timeout: patience}
	busy := 0
	for range 20 {
		response, err := client.Get(w.url("/stream"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		if response.StatusCode == http.StatusServiceUnavailable {
			busy++
		}
	}
	if busy != 4 {
		t.Errorf("%d of 20 pages were refused", busy)
	}
	began := time.Now()
	w.stop()
	within(t, began, 5*time.Second, "to stop with pages open")
}
