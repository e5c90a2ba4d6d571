package e2e

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
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
		chromedp.UserDataDir(browserDir(t)), chromedp.WSURLReadTimeout(2*patience), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), append(flags, more...)...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 10*patience)
	t.Cleanup(cancel)
	return ctx
}

// browserDir is a directory for a browser, whose children write into it for a moment after its end.
func browserDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eventually(t, "nothing writes into "+dir, func() error { return os.RemoveAll(dir) }) })
	return dir
}

// do runs steps in the browser.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// allPhases starts a wrapper with processes in every phase, and n that are ready.
func allPhases(t *testing.T, n int) *wrapper {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	const often = "readiness: {delay: 0s, period: 200ms, failureThreshold: 100000, startupDeadline: 1h, "
	config := script("ready", forever) + script("completed", "exit 0", "restartPolicy: onFailure") + script("failed", "echo 'cannot open /data/queue.db: disk full' >&2; exit 3", "restartPolicy: never") +
		script("crashing", "echo 'config: no key \"listen\"' >&2; exit 3", "backoff: {initial: 1h, max: 1h}") +
		script("unready", forever, often+`exec: {command: {entrypoint: /bin/sh, args: [-c, "echo '<b>no</b> & more'; exit 1"]}}}`) +
		script("waiting", forever, "dependsOn: [unready]") + script("skipped", forever) + script("stopped", forever) +
		script("stopping", stubborn, "stopTimeout: 1h") + script("standby", forever, "readiness: {lock: {}}") +
		script("starting", forever, "envsFile: "+fifo)
	for i := range n {
		config += script(fmt.Sprintf("worker-%d", i), forever)
	}
	w := start(t, options{config: config, args: []string{"-skip-commands", "skipped", "-graceful-shutdown-deadline", "1h", "-drain-delay", "1h",
		"-shared-lock-url", fmt.Sprintf("http://127.0.0.1:%d", freePort(t))}})
	w.in("stopped", "ready")
	w.in("stopping", "ready")
	w.must("stop", "-within", "0s", "stopped", "stopping")
	for _, phase := range []string{"waiting", "standby", "starting", "ready", "stopping", "completed", "failed", "stopped", "skipped"} {
		w.in(phase, phase)
	}
	w.in("crashing", "backoff")
	w.until("unready", "says why", func(s state) bool { return s.Phase == "running" && len(s.Probes) == 1 && s.Probes[0].Error != "" })
	w.in(fmt.Sprintf("worker-%d", n-1), "ready")
	return w
}

// What the pages and the terminal must say of them all.
var saidOfAllPhases = []string{
	"not ready", "waiting", "standby", "starting", "running", "ready", "stopping", "backoff", "completed", "failed", "stopped", "skipped",
	"<b>no</b> & more", "exited with code 3", "reading /", "SIGKILL in ", "no shared-lock server answers at http://127.0.0.1:",
}

func TestPageAndTopInAllPhases(t *testing.T) {
	shots := artefacts(t)
	light, dark := browser(t, chromedp.Flag("blink-settings", "preferredColorScheme=1")), browser(t, chromedp.Flag("blink-settings", "preferredColorScheme=0"))
	for _, n := range []int{1, 20, 200} {
		w := allPhases(t, n)
		for _, columns := range []int{80, 200} {
			size := fmt.Sprintf("%d-%d", n, columns)
			w.photograph(light, columns, filepath.Join(shots, "page-"+size+"-light.png"), append(saidOfAllPhases, fmt.Sprintf("worker-%d", n-1)))
			if n == 20 {
				w.photograph(dark, columns, filepath.Join(shots, "page-"+size+"-dark.png"), saidOfAllPhases)
			}
			top := w.top(columns, columns/4)
			for _, want := range saidOfAllPhases {
				if columns == 80 && strings.Contains(want, " ") && want != "not ready" {
					continue // there is no room for it, unless it is the chosen one
				}
				top.shows(regexp.QuoteMeta(want))
			}
			shoot(t, dark, top.html(), filepath.Join(shots, "top-"+size+".png"))
			top.press("q")
			top.restored(0)
		}
		w.signal(syscall.SIGTERM)
		w.stderr.waitFor(t, regexp.MustCompile(`msg="leaving service"`))
		w.photograph(light, 80, filepath.Join(shots, fmt.Sprintf("page-%d-80-leaving.png", n)), []string{"leaving service"})
		w.signal(syscall.SIGTERM)
		w.wait()
	}
}

// photograph opens the page in a window of so many columns of text, wants it to hold texts and to
// need no more width, and keeps a picture of all of it.
func (w *wrapper) photograph(ctx context.Context, columns int, file string, texts []string) {
	w.t.Helper()
	var text string
	var overflow int
	var shot []byte
	do(w.t, ctx, chromedp.EmulateViewport(int64(8*columns), 900), chromedp.Navigate(w.url("/")), chromedp.WaitVisible("#live table, #live p"),
		chromedp.Text("#live", &text), chromedp.Evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth", &overflow), chromedp.FullScreenshot(&shot, 100))
	for _, want := range texts {
		if !strings.Contains(text, want) {
			w.t.Errorf("%s: %q is missing", filepath.Base(file), want)
		}
	}
	if overflow > 0 {
		w.t.Errorf("%s: the page is %d wider than its window", filepath.Base(file), overflow)
	}
	if err := os.WriteFile(file, shot, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// shoot keeps a picture of HTML.
func shoot(t *testing.T, ctx context.Context, html, file string) {
	t.Helper()
	var shot []byte
	page := write(t, "page.html", html)
	do(t, ctx, chromedp.EmulateViewport(400, 300), chromedp.Navigate("file://"+page), chromedp.Screenshot("pre", &shot, chromedp.NodeVisible))
	if err := os.WriteFile(file, shot, 0o644); err != nil {
		t.Fatal(err)
	}
}

// html draws what is seen, with the colours of a terminal.
func (term *terminal) html() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	styles := map[string]string{"1": "font-weight:bold", "2": "opacity:.6", "7": "background:#ddd;color:#111", "31": "color:#f66", "32": "color:#6d6", "33": "color:#dc6"}
	var b strings.Builder
	b.WriteString(`<meta charset="utf-8"><body style="margin:0;background:#111"><pre style="display:inline-block;margin:0;padding:8px;background:#111;color:#ddd;font:14px/1.25 'DejaVu Sans Mono',monospace">`)
	for _, line := range term.screen.cells {
		for _, c := range line {
			text := html.EscapeString(string(max(c.r, ' ')))
			if style := styles[c.pen]; style != "" {
				text = `<span style="` + style + `">` + text + "</span>"
			}
			b.WriteString(text)
		}
		b.WriteString("\n")
	}
	return b.String() + "</pre>"
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
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<noscript><meta http-equiv="refresh"`, `<th scope="row">web</th>`, ">ready</span>"} {
		if !strings.Contains(string(text), want) {
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
