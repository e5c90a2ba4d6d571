package prommerge

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"
	timeoutSpare  = 250 * time.Millisecond // for merging and writing the page
	writeTimeout  = time.Minute            // for a scraper to take the page, which is held in memory so long
)

// Encoding is a way to compress an answer.
type Encoding struct {
	Name string                           // in Accept-Encoding, such as gzip
	New  func(w io.Writer) io.WriteCloser // Close ends the stream and leaves w open
}

// Handler returns a handler that merges targets() anew for every request. It always answers 200, with the merger's
// own series at least: any other status would make Prometheus mark all targets as down. Only to another merge that this
// one asks, directly or not, it says 508: each would ask the other until the time is over.
func (m *Merger) Handler(targets func() []Target) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "GET only", http.StatusMethodNotAllowed)
			return
		}
		via := strings.Join(r.Header.Values(viaHeader), ",")
		if m.loops(via) {
			http.Error(w, "this merge is part of the one that asks", http.StatusLoopDetected)
			return
		}
		ctx, cancel := withScrapeTimeout(context.WithValue(r.Context(), viaKey{}, via), r.Header.Get(timeoutHeader))
		defer cancel()
		if m.slots != nil {
			select {
			case m.slots <- struct{}{}:
				defer func() { <-m.slots }()
			case <-ctx.Done(): // then there is nothing to tell but that
			}
		}
		p := m.Gather(ctx, strings.Join(r.Header.Values("Accept"), ","), targets())
		defer p.Close()
		if r.Context().Err() != nil {
			return // the scraper left
		}
		h := w.Header()
		h.Set("Content-Type", p.ContentType())
		h.Add("Vary", "Accept, Accept-Encoding")
		enc := m.encoding(strings.Join(r.Header.Values("Accept-Encoding"), ","))
		if enc != nil {
			h.Set("Content-Encoding", enc.Name)
		} else {
			h.Set("Content-Length", strconv.FormatInt(p.Size(), 10))
		}
		if r.Method == http.MethodHead {
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // where that is supported
		if err := writeEncoded(w, p, enc); err != nil && r.Context().Err() == nil && !m.opt.SuppressErrors {
			m.opt.Logger.Warn("write merged page", "err", err)
		}
		_ = rc.Flush()
		_ = rc.SetWriteDeadline(time.Time{})
	})
}

// viaHeader lists the mergers whose merge a request is for. maxVia is how many there may be one above the other.
const (
	viaHeader = "X-Prommerge-Via"
	maxVia    = 8
)

// viaKey is the key of the viaHeader of a scrape in its context.
type viaKey struct{}

// via returns the viaHeader for requests of a scrape.
func (m *Merger) via(ctx context.Context) string {
	if up, _ := ctx.Value(viaKey{}).(string); up != "" {
		return up + "," + m.id
	}
	return m.id
}

// loops reports whether a request with this viaHeader is for a merge of m, or too far down.
func (m *Merger) loops(via string) bool {
	n := 0
	for id := range strings.SplitSeq(via, ",") {
		if n++; n > maxVia || strings.TrimSpace(id) == m.id {
			return true
		}
	}
	return false
}

func writeEncoded(w io.Writer, p *Page, enc *Encoding) error {
	if enc == nil {
		_, err := p.WriteTo(w)
		return err
	}
	z := enc.New(w)
	_, err := p.WriteTo(z)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return err
}

// withScrapeTimeout ends ctx a little before the scraper gives up, as its header says.
func withScrapeTimeout(ctx context.Context, header string) (context.Context, context.CancelFunc) {
	sec, err := strconv.ParseFloat(header, 64)
	if err != nil || !(sec > 0) || sec > 3600 {
		return context.WithCancel(ctx)
	}
	d := time.Duration(sec * float64(time.Second))
	return context.WithTimeout(ctx, max(d-timeoutSpare, d/2))
}

// encoding picks the encoding that an Accept-Encoding header likes best, ours first among equals; nil is none.
func (m *Merger) encoding(accept string) *Encoding {
	var best *Encoding
	bestQ := 0.0
	for i := range m.opt.Encodings {
		if q := encodingQ(accept, m.opt.Encodings[i].Name); q > bestQ {
			best, bestQ = &m.opt.Encodings[i], q
		}
	}
	return best
}

func encodingQ(accept, name string) float64 {
	for e := range strings.SplitSeq(accept, ",") {
		n, param, _ := strings.Cut(e, ";")
		if !strings.EqualFold(strings.TrimSpace(n), name) {
			continue
		}
		return quality(strings.TrimPrefix(strings.TrimSpace(param), "q="))
	}
	return 0
}

// redacted returns a URL without its password.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}
