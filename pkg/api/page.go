package api

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

const (
	maxViewers  = 16 // pages that are open and refresh themselves
	streamEvery = time.Second
	streamIdle  = 5 * time.Second // CPU, memory and times change without an event
	pageEvents  = 40
)

// root answers people with a page, and programs with a list of endpoints.
func (h *handler) root(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.index(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Content-Security-Policy", pagePolicy)
	_, _ = io.WriteString(w, pageHead+`<main id="live">`+h.middle(time.Now())+"</main>"+pageFoot) // whoever looked has left
}

// stream sends the middle of the page whenever it changes.
func (h *handler) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case h.viewers <- struct{}{}:
		defer func() { <-h.viewers }()
	default:
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		_, changed := h.board.Load()
		_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout)) // a recorder in a test has none
		// A line of an event must not hold a newline; the middle has none.
		if _, err := io.WriteString(w, "data: "+h.middle(time.Now())+"\n\n"); err != nil || rc.Flush() != nil {
			return
		}
		idle := time.NewTimer(streamIdle)
		select {
		case <-changed:
		case <-idle.C:
		case <-r.Context().Done():
			idle.Stop()
			return
		}
		idle.Stop()
		if !pause(r.Context(), streamEvery) {
			return
		}
	}
}

// markup builds HTML; all that is not ours goes through text.
type markup struct{ strings.Builder }

func (m *markup) text(s string) { m.WriteString(html.EscapeString(strings.ReplaceAll(s, "\n", " "))) }

// element writes text in an element; open is the tag with its attributes.
func (m *markup) element(open, text string) {
	m.WriteString("<" + open + ">")
	m.text(text)
	tag, _, _ := strings.Cut(open, " ")
	m.WriteString("</" + tag + ">")
}

// middle is what changes of the page.
func (h *handler) middle(now time.Time) string {
	snap, _ := h.board.Load()
	var m markup
	h.summary(&m, snap, now)
	m.WriteString(`<table><thead><tr><th scope="col">process</th><th scope="col">phase</th><th scope="col">since</th><th scope="col">pid</th>` +
		`<th scope="col">restarts</th><th scope="col" class="use">CPU</th><th scope="col" class="use">memory</th><th scope="col">why</th></tr></thead><tbody>`)
	for st := range snap.All {
		h.row(&m, st, now)
	}
	m.WriteString("</tbody></table>")
	if snap.Len() == 0 {
		m.WriteString("<p>No processes are configured.</p>")
	}
	h.lately(&m)
	return m.String()
}

// summary is the pod in a line.
func (h *handler) summary(m *markup, snap *status.Snapshot, now time.Time) {
	m.WriteString(`<p class="pod">`)
	badge := func(good bool, yes, no string) {
		if good {
			m.element(`span class="badge good"`, yes)
		} else {
			m.element(`span class="badge bad"`, no)
		}
	}
	badge(snap.Ready(), "ready", "not ready")
	alive := true
	for range snap.Dead(now) {
		alive = false
		break
	}
	badge(alive, "alive", "counts as dead")
	if pod := snap.Pod(); !pod.InService() {
		m.element(`span class="badge warn"`, "leaving service: "+clip(pod.Reason, maxError))
	}
	counts := make(map[status.Phase]int)
	for st := range snap.All {
		counts[st.Phase]++
	}
	for _, p := range status.Phases() {
		if n := counts[p]; n > 0 {
			m.element(`span class="count"`, strconv.Itoa(n)+" "+string(p))
		}
	}
	m.WriteString("</p>")
	unwell(m, snap)
}

const (
	glance    = 20 // processes are seen at a glance
	mostNamed = 12
)

// unwell names those that are not ready, where they would have to be looked for.
func unwell(m *markup, snap *status.Snapshot) {
	var names []string
	for st := range snap.Unready {
		names = append(names, clip(st.Name, 64))
	}
	if len(names) == 0 || snap.Len() <= glance {
		return
	}
	text := strings.Join(names[:min(len(names), mostNamed)], ", ")
	if more := len(names) - mostNamed; more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	m.element("p", "Not ready: "+text)
}

// tone is the colour of a phase, whose word is there too.
func tone(p status.Phase) string {
	switch p {
	case status.Ready, status.Completed:
		return "good"
	case status.Failed, status.Backoff:
		return "bad"
	case status.Skipped, status.Standby, status.Stopped:
		return "dim"
	}
	return "warn"
}

// longName is from which length on a name may be broken into lines.
const longName = 32

func (h *handler) row(m *markup, st status.State, now time.Time) {
	m.WriteString("<tr>")
	open := `th scope="row"`
	if utf8.RuneCountInString(st.Name) > longName {
		open += ` class="long"`
	}
	m.element(open, st.Name)
	m.WriteString("<td>")
	m.element(`span class="badge `+tone(st.Phase)+`"`, string(st.Phase))
	m.WriteString("</td>")
	m.element(`td class="num"`, span(now.Sub(st.Since)))
	pid := ""
	if st.PID > 0 {
		pid = strconv.Itoa(st.PID)
	}
	m.element(`td class="num" data-label="pid"`, pid)
	m.element(`td class="num" data-label="restarts"`, strconv.Itoa(st.Restarts))
	h.used(m, st, now)
	m.element(`td class="why"`, h.story(st, now))
	m.WriteString("</tr>")
}

// used draws CPU and memory of the last ten minutes, with the present figures.
func (h *handler) used(m *markup, st status.State, now time.Time) {
	var points []Point
	if h.History != nil {
		points = h.History(st.Name)
	}
	cpu, memory := "", ""
	if u := h.usage(st); u != nil && st.PID > 0 {
		cpu, memory = fmt.Sprintf("%.1f %%", u.CPUPercent), size(u.Memory)
	}
	for _, c := range []struct {
		what, now string
		value     func(Point) float64
		show      func(float64) string
	}{
		{"CPU", cpu, func(p Point) float64 { return p.CPUPercent }, func(v float64) string { return fmt.Sprintf("%.1f %%", v) }},
		{"memory", memory, func(p Point) float64 { return float64(p.Memory) }, func(v float64) string { return size(int64(v)) }},
	} {
		m.WriteString(`<td class="num use" data-label="` + c.what + `">`)
		sparkline(m, c.what, points, now, c.value, c.show)
		m.text(c.now)
		m.WriteString("</td>")
	}
}

const (
	sparkWidth, sparkHeight = 60, 16
	sparkTime               = 10 * time.Minute
	sparkGap                = 25 * time.Second // a longer one is a time in which it did not run
)

// sparkline draws values over the last ten minutes, from zero to the largest.
func sparkline(m *markup, what string, points []Point, now time.Time, value func(Point) float64, show func(float64) string) {
	if len(points) < 2 {
		return
	}
	most := 0.0
	for _, p := range points {
		most = max(most, value(p))
	}
	fmt.Fprintf(m, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img"><title>`, sparkWidth, sparkHeight, sparkWidth, sparkHeight)
	m.text(what + " of 10 minutes, at most " + show(most))
	m.WriteString(`</title><path d="`)
	last := time.Time{}
	for _, p := range points {
		x := sparkWidth * (1 - now.Sub(p.Time).Seconds()/sparkTime.Seconds())
		y := float64(sparkHeight - 1)
		if most > 0 {
			y -= (sparkHeight - 2) * value(p) / most
		}
		step := "L"
		if p.Time.Sub(last) > sparkGap {
			step = "M"
		}
		fmt.Fprintf(m, "%s%.1f %.1f", step, min(max(x, 0), sparkWidth), y)
		last = p.Time
	}
	m.WriteString(`"/></svg>`)
}

// story is what is to be known of a process that is not well, and how it ended last.
func (h *handler) story(st status.State, now time.Time) string {
	var parts []string
	for _, c := range h.board.Checks(st.Name) {
		if c.Result == status.Pass || c.Err == nil {
			continue
		}
		text := c.Probe + ": " + c.Err.Error()
		if st.PID == 0 && st.Cause != nil && st.Cause.Error() == text { // told once, as its end
			continue
		}
		parts = append(parts, clip(text, maxError))
	}
	if st.Detail != "" {
		parts = append(parts, clip(st.Detail, maxError))
	}
	switch {
	case st.Cause != nil:
		parts = append(parts, "last end: "+clip(st.Cause.Error(), maxError))
	case !st.Ended.IsZero():
		parts = append(parts, "last end: exit code 0")
	}
	if h.Lock != nil {
		if l, ok := h.Lock(st.Name); ok && l.Held {
			parts = append(parts, "holds lock "+clip(l.Key, 128))
		}
	}
	return strings.Join(append(parts, h.coming(st, now)...), "; ")
}

// coming is what happens to a process next, and when.
func (h *handler) coming(st status.State, now time.Time) (parts []string) {
	switch at := h.killAt(st); {
	case at.After(now):
		parts = append(parts, "SIGKILL in "+span(at.Sub(now)))
	case !at.IsZero():
		parts = append(parts, "SIGKILL was sent "+span(now.Sub(at))+" ago")
	}
	if st.Next.After(now) {
		parts = append(parts, "next start in "+span(st.Next.Sub(now)))
	}
	return parts
}

// lately lists the last events, the latest first.
func (h *handler) lately(m *markup) {
	if h.Events == nil {
		return
	}
	all, _ := h.Events.Since(0)
	all = all[max(0, len(all)-pageEvents):]
	if len(all) == 0 {
		return
	}
	m.WriteString("<h2>Last events</h2><ol>")
	for _, e := range slices.Backward(all) {
		m.WriteString("<li>")
		at := e.Time.UTC()
		m.element(`time datetime="`+at.Format(time.RFC3339)+`"`, at.Format("15:04:05.000"))
		m.WriteString(" ")
		m.element("b", e.Process)
		m.WriteString(" ")
		m.text(e.says())
		m.WriteString("</li>")
	}
	m.WriteString("</ol><p class=\"dim\">Times are UTC.</p>")
}

// says is an event in words.
func (e Event) says() string {
	if e.Probe != "" {
		text := "probe " + e.Probe + ": " + string(e.Result)
		if e.Err != nil {
			text += ": " + clip(e.Err.Error(), maxError)
		}
		return text
	}
	text := string(e.Phase)
	if e.PID > 0 {
		text += ", pid " + strconv.Itoa(e.PID)
	}
	switch {
	case e.Cause != nil:
		text += ": " + clip(e.Cause.Error(), maxError)
	case e.ExitCode == 0:
		text += ": exit code 0"
	}
	if e.Detail != "" {
		text += " (" + clip(e.Detail, maxError) + ")"
	}
	return text
}

// span is a time in two units at most.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// size is a count of bytes for people.
func size(n int64) string {
	switch v := float64(n); {
	case v < 1<<20:
		return fmt.Sprintf("%.0f KiB", v/(1<<10))
	case v < 1<<30:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	default:
		return fmt.Sprintf("%.2f GiB", v/(1<<30))
	}
}

const pageHead = `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>process-wrapper</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<noscript><meta http-equiv="refresh" content="5"></noscript><style>` + pageStyle + `</style></head><body>
<header><h1>process-wrapper</h1><nav><a href="/v1/processes">JSON</a> <a href="/metrics">metrics</a> <a href="/readiness">readiness</a> <a href="/liveness">liveness</a></nav></header>
`

const pageFoot = `<footer id="foot"></footer><script>` + pageScript + `</script></body></html>
`

const pageStyle = `
:root{color-scheme:light dark;--back:#fff;--fore:#1c2024;--soft:#60646c;--line:#e2e4e9;--good:#13703b;--goodback:#dff3e4;--bad:#b3261e;--badback:#fde3e1;--warn:#7a4d00;--warnback:#fcefc9;--dimback:#eceef1;--accent:#0b5fb4}
@media(prefers-color-scheme:dark){:root{--back:#111418;--fore:#e8eaed;--soft:#a0a6ae;--line:#2b3037;--good:#7ddc9f;--goodback:#12351f;--bad:#ffb0a8;--badback:#471713;--warn:#f2c869;--warnback:#3c2d08;--dimback:#23282e;--accent:#7db8f5}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:110rem;padding:1rem 1.5rem;background:var(--back);color:var(--fore);font:15px/1.45 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;gap:.5rem 2rem;align-items:baseline}
h1{font-size:1.25rem;margin:0}h2{font-size:1rem;margin:1.5rem 0 .5rem}
a{color:var(--accent)}nav a{margin-right:.75rem}
.badge{display:inline-block;padding:.05rem .5rem;border-radius:.6rem;font-weight:600}
.pod{display:flex;flex-wrap:wrap;gap:.4rem .6rem;align-items:center}.count{color:var(--soft)}
.good{color:var(--good);background:var(--goodback)}.bad{color:var(--bad);background:var(--badback)}.warn{color:var(--warn);background:var(--warnback)}.badge.dim{background:var(--dimback)}.dim{color:var(--soft)}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--soft);font-weight:500}tbody th{font-weight:600;white-space:nowrap}tbody th.long{white-space:normal;overflow-wrap:anywhere;min-width:12rem}
.num{white-space:nowrap;font-variant-numeric:tabular-nums}.use{text-align:right}.why{overflow-wrap:anywhere;min-width:14rem}
svg{vertical-align:-3px;margin-right:.4rem}path{fill:none;stroke:var(--accent);stroke-width:1.3}
ol{list-style:none;margin:0;padding:0}li{padding:.1rem 0;overflow-wrap:anywhere}time{color:var(--soft);font-variant-numeric:tabular-nums}
footer{color:var(--soft);margin-top:1rem}
@media(max-width:60rem){table,thead,tbody,tr,th,td{display:block;border:0}thead{display:none}tr{border-bottom:1px solid var(--line);padding:.5rem 0}td{display:inline-block}td.why{display:block}td:empty{display:none}td[data-label]::before{content:attr(data-label) " ";color:var(--soft)}}
`

const pageScript = `
const live=document.getElementById("live"),foot=document.getElementById("foot");
function open(){const s=new EventSource("/stream");
s.onmessage=e=>{live.innerHTML=e.data;foot.textContent=""};
s.onerror=()=>{foot.textContent="No answer since "+new Date().toLocaleTimeString()+"; trying again.";s.close();setTimeout(open,3000)}}
open();
`

// pagePolicy lets the page do what it does, and nothing else.
var pagePolicy = "default-src 'none'; style-src '" + hashed(pageStyle) + "'; script-src '" + hashed(pageScript) + "'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
