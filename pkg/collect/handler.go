package collect

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

var formats = []expfmt.Format{expfmt.NewFormat(expfmt.TypeTextPlain), expfmt.NewFormat(expfmt.TypeProtoDelim)}

// Handler serves the series as a page for Prometheus, those of own first. It
// answers 200 and a valid page whatever was received: text, or protobuf for who
// accepts it, with gzip for who accepts that.
func (r *Registry) Handler(own prometheus.Gatherer) http.Handler {
	return r.handler(own, newTurns())
}

func (r *Registry) handler(own prometheus.Gatherer, turns *turns) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		control := http.NewResponseController(w)
		t, ok := turns.take(req.Context(), func() { _ = control.SetWriteDeadline(time.Unix(1, 0)) })
		if !ok {
			return
		}
		defer turns.done(t)
		format := expfmt.NegotiateAccept(req.Header, formats...)
		var p page = textPage{}
		switch format.FormatType() {
		case expfmt.TypeProtoDelim:
			p = protoPage{}
		default:
			format = expfmt.NewFormat(expfmt.TypeTextPlain)
		}
		w.Header().Set("Content-Type", string(format))
		var out io.Writer = w
		if acceptsGzip(req.Header) {
			w.Header().Set("Content-Encoding", "gzip")
			z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is right
			defer func() { _ = z.Close() }()
			out = z
		}
		families, _ := own.Gather() // it returns what is good
		enc := expfmt.NewEncoder(out, format)
		for _, f := range families {
			if enc.Encode(f) != nil {
				return
			}
		}
		_ = r.expose(out, p) // the client is gone
	})
}

func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(h.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !ok || err == nil && v > 0
	}
	return false
}
