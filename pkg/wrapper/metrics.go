package wrapper

import (
	"bytes"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// maxScrapes may be in flight at a time: each holds a whole page.
const maxScrapes = 4

// textFormat is what every Prometheus reads.
const textFormat = "text/plain; version=0.0.4; charset=utf-8"

// metricsHandler answers with all metrics of a gatherer. It is a small part of
// promhttp, whose encoders and compressors are 0.4 MiB of binary that nobody
// who scrapes a pod needs.
func metricsHandler(g prometheus.Gatherer, log *slog.Logger) http.Handler {
	busy := make(chan struct{}, maxScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
		default:
			http.Error(w, "too many scrapes at a time", http.StatusServiceUnavailable)
			return
		}
		families, err := g.Gather()
		if err != nil { // the rest is good
			log.Warn("some metrics are missing", "err", err)
		}
		var page bytes.Buffer // written at once: a slow reader holds nothing else
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&page, f); err != nil {
				log.Warn("a metric is missing", "metric", f.GetName(), "err", err)
			}
		}
		w.Header().Set("Content-Type", textFormat)
		_, _ = w.Write(page.Bytes()) // whoever asked has left
	})
}
