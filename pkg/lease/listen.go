package lease

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// listen has the lock renewed when the server tells that somebody freed it, which a renewal would
// tell only much later. It is best effort: the deadline does not depend on it.
func (h *hold) listen() {
	for {
		if !h.listenOnce() || !sleep(h.life, spread(time.Second)) {
			return
		}
		h.nudge() // something may have been missed
	}
}

func (h *hold) nudge() {
	select {
	case h.nudges <- struct{}{}:
	default:
	}
}

// listenOnce returns false if there is nothing to listen to.
func (h *hold) listenOnce() bool {
	c := h.lock.client
	path := "/v1/events?prefix=" + url.QueryEscape(h.lock.req.Key)
	resp, err := c.open(h.life, c.server.Load(), request{method: http.MethodGet, path: path})
	if err != nil {
		return h.life.Err() == nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode >= 500
	}
	h.read(resp.Body)
	return h.life.Err() == nil
}

// read reads events until there are none any more.
func (h *hold) read(r io.Reader) {
	lines := bufio.NewScanner(io.LimitReader(r, 1<<30))
	event := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event = value
			if event == "reset" {
				h.nudge()
			}
		case "data":
			var d struct {
				Key   string
				Token int64
			}
			if event == "freed" && json.Unmarshal([]byte(value), &d) == nil && d.Key == h.lock.req.Key && d.Token == h.lock.token {
				h.nudge()
			}
		}
	}
}
