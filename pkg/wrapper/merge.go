package wrapper

import (
	"log/slog"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// page is where a process has its metrics.
type page = prommerge.Target

func appendPage(pages []page, p *spec.Process) []page {
	if p.PromTarget == "" {
		return pages
	}
	return append(pages, page{Name: p.Name, URL: p.PromTarget, Labels: p.Labels})
}

func newMerger(f *flags, log *slog.Logger) *prommerge.Merger {
	return prommerge.New(prommerge.Options{
		Async:          f.PrommergeAsync,
		Sort:           f.PrommergeSort,
		EmptyOnFailure: f.PrommergeEmptyOnFailure,
		OmitMeta:       f.PrommergeOmitMeta,
		SuppressErrors: f.PrommergeSupressErrors,
		Logger:         log,
	})
}

// targets are the pages of the processes that are ready now.
func (p *pod) targets() []prommerge.Target {
	snap, _ := p.board.Load()
	ready := make([]prommerge.Target, 0, len(p.pages))
	for _, t := range p.pages {
		if st, ok := snap.Get(t.Name); ok && st.Phase.Ready() && st.Phase.Alive() {
			ready = append(ready, t)
		}
	}
	return ready
}
