package collect

import (
	"fmt"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

func TestRecentIDs(t *testing.T) {
	r := newRecent()
	id := func(i int) identity { return identity{datagram.Event, fmt.Sprint(i)} }
	for i := range 3 * recentIDs {
		if r.claim(id(i), 3) != 3 {
			t.Fatalf("%d is known before it came", i)
		}
	}
	if len(r.known) != recentIDs || r.claim(id(3*recentIDs-1), 3) != 0 || r.claim(id(0), 3) != 3 {
		t.Errorf("%d are known", len(r.known))
	}
}

func TestTheSecondCopyGoesToWhoRefusedTheFirst(t *testing.T) {
	other := &keep{}
	r := newRig(t, Limits{}, func(c *Config) { c.Events = append(c.Events, other) })
	c := r.dial("unix", r.unix)
	refuse := func(err error) {
		other.mu.Lock()
		defer other.mu.Unlock()
		other.fail = err
	}
	const event = `{"name":"e","op":"event","id":"1"}`
	refuse(errNo)
	write(t, c, event)
	r.until(1, "metrics_server_applied_total", "op", "event")
	write(t, c, event)
	r.until(1, "metrics_server_dropped_total", "reason", "sink_full")
	refuse(nil)
	write(t, c, event)
	r.until(2, "metrics_server_applied_total", "op", "event")
	write(t, c, event+`{"name":"e","op":"index","id":"1"}`)
	r.until(1, "metrics_server_dropped_total", "reason", "duplicate")
	r.until(1, "metrics_server_applied_total", "op", "index")
	if a, b, i := len(r.events.all()), len(other.all()), len(r.index.all()); a != 1 || b != 1 || i != 1 {
		t.Errorf("%d, %d and %d copies", a, b, i)
	}
}
