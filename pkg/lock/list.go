package lock

import (
	"net/http"
)

// lockJSON is a lock and all who hold it.
type lockJSON struct {
	Key     string       `json:"key"`
	Holders []holderJSON `json:"holders"`
	Waiters int          `json:"waiters"` // of this replica
}

// get answers GET /v1/locks/{key}.
func (s *Server) get(w http.ResponseWriter, r *http.Request, name Name) error {
	if err := s.may(r, read, name); err != nil {
		return err
	}
	ctx, cancel := bounded(r)
	defer cancel()
	holders, err := s.store.Holders(ctx, name, true)
	if err != nil {
		return err
	}
	if len(holders) == 0 {
		return &problem{http.StatusNotFound, "not_held", "nobody holds the lock"}
	}
	writeJSON(w, http.StatusOK, s.group(holders)[0])
	return nil
}

// list answers GET /v1/locks.
func (s *Server) list(w http.ResponseWriter, r *http.Request, name Name) error {
	name.Key = r.URL.Query().Get("prefix")
	if err := s.mayPrefix(r, read, name); err != nil {
		return err
	}
	if name.Key != "" {
		if err := checkKey(name.Key); err != nil {
			return err
		}
	}
	ctx, cancel := bounded(r)
	defer cancel()
	holders, err := s.store.Holders(ctx, name, false)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"locks": s.group(holders[:min(len(holders), maxList)])})
	return nil
}

// group puts holders of one key together. They come by key.
func (s *Server) group(holders []Holder) []lockJSON {
	locks := []lockJSON{}
	for _, h := range holders {
		if n := len(locks); n == 0 || locks[n-1].Key != h.Key {
			locks = append(locks, lockJSON{Key: h.Key, Waiters: s.queues.waiting(h.Name)})
		}
		last := &locks[len(locks)-1]
		last.Holders = append(last.Holders, show(h))
	}
	return locks
}
