package wrapper

import (
	"log/slog"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
	"github.com/process-wrapper/process-wrapper/pkg/prommerge/compress"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// page is where a process has its metrics.
type page = prommerge.Target

// pagesOf returns where the processes have their metrics that are to be run.
func pagesOf(all []*spec.Process, skip func(*spec.Process) bool) []page {
	var pages []page
	for _, p := range all {
		if p.PromTarget != "" && !skip(p) {
			pages = append(pages, page{Name: p.Name, URL: p.PromTarget, Labels: p.Labels})
		}
	}
	return pages
}

func newMerger(f *flags, log *slog.Logger) *prommerge.Merger {
	return prommerge.New(prommerge.Options{
		Async:          f.PrommergeAsync,
		Sort:           f.PrommergeSort,
		EmptyOnFailure: f.PrommergeEmptyOnFailure,
		OmitMeta:       f.PrommergeOmitMeta,
		SuppressErrors: f.PrommergeSupressErrors,
		Encodings:      []prommerge.Encoding{compress.Gzip()},              // zstd is 0.27 MiB more of program, and Prometheus asks for gzip
		Limits:         prommerge.Limits{TotalBytes: 128 << 20, Merges: 4}, // this is memory of PID 1
		Logger:         log,
	})
}

// targets are the pages of the processes that are ready now.
func (p *pod) targets() []prommerge.Target {
	snap, _ := p.board.Load()
	var ready []prommerge.Target
	pages := p.pages.Load()
	if pages == nil {
		return nil
	}
	for _, t := range *pages {
		if st, ok := snap.Get(t.Name); ok && st.Phase.Ready() && st.Phase.Alive() {
			ready = append(ready, t)
		}
	}
	return ready
}
