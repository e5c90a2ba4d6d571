package metadata

import (
	"maps"
	"time"
)

// State is what a Server shows of itself.
type State struct {
	Personality Personality `json:"personality"`
	Preempted   bool        `json:"preempted"`
	Deadline    *time.Time  `json:"deadline,omitempty"` // when the machine would end
	Maintenance string      `json:"maintenance,omitempty"`
	Rebalance   *time.Time  `json:"rebalance,omitempty"`
	Azure       []string    `json:"azureEvents,omitempty"` // id, type and status of each
	Faults      []string    `json:"faults,omitempty"`
	Waiting     int         `json:"waiting"`  // requests that wait for a change
	Requests    uint64      `json:"requests"` // that were answered

	Paths map[string]uint64 `json:"paths"` // requests by path; after 200 paths the rest is "others"
}

// State returns the state as it is now.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state()
}

func (s *Server) state() State {
	now := time.Now()
	s.prune(now)
	s.azure.advance(now)
	state := State{Personality: s.config.Personality, Preempted: s.notice.preempted, Waiting: s.waiting, Requests: s.stats.total, Paths: maps.Clone(s.stats.paths)}
	if s.notice.preempted {
		deadline := s.notice.deadline.UTC()
		state.Deadline = &deadline
	}
	if n := s.tree.find(pathMaintenance); n != nil {
		state.Maintenance = n.scalar()
	}
	if !s.notice.rebalance.IsZero() {
		at := s.notice.rebalance.UTC()
		state.Rebalance = &at
	}
	for _, e := range s.azure.events {
		if s.config.Personality != Azure && s.config.Personality != All {
			break // nobody can ask for them
		}
		state.Azure = append(state.Azure, e.ID+" "+e.Type+" "+e.Status)
	}
	for _, f := range s.faults {
		state.Faults = append(state.Faults, f.String())
	}
	return state
}
