package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// datagram is one of those that go to a metrics server.
type datagram struct {
	Name, Op, ID string
	Value        float64
	Labels       map[string]string
}

// metricsServer takes what is sent to it, each event once.
type metricsServer struct {
	t    *testing.T
	conn net.PacketConn

	mu  sync.Mutex // guards all
	all []datagram
}

func newMetricsServer(t *testing.T) *metricsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &metricsServer{t: t, conn: conn}
	var wg sync.WaitGroup
	wg.Go(s.serve)
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return s
}

func (s *metricsServer) serve() {
	ids := map[string]bool{}
	for buf := make([]byte, 1<<16); ; {
		n, _, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		for dec := json.NewDecoder(bytes.NewReader(buf[:n])); dec.More(); {
			var m datagram
			if err := dec.Decode(&m); err != nil {
				s.t.Errorf("%v in %q", err, buf[:n])
				break
			}
			s.mu.Lock()
			if m.ID == "" || !ids[m.ID] {
				s.all = append(s.all, m)
			}
			ids[m.ID] = true
			s.mu.Unlock()
		}
	}
}

// sum returns the values of all messages with a name and an operation.
func (s *metricsServer) sum(name, op string) (v float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.all {
		if m.Name == name && m.Op == op {
			v += m.Value
		}
	}
	return v
}

func TestAPreemptionIsOneEventWhateverElseHappens(t *testing.T) {
	t.Parallel()
	s, c := newMetricsServer(t), newCloud(t)
	w := start(t, options{env: c.env("METRICS_SERVER_ADDRESS=" + s.conn.LocalAddr().String())})
	c.watched()
	c.preempt()
	eventually(t, "it is counted each second", func() error {
		if n := s.sum("preemption_count", "event"); n < 2 {
			return fmt.Errorf("%v times", n)
		}
		return nil
	})
	w.signal(syscall.SIGTERM)
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	eventually(t, "the end is an event", func() error {
		if s.sum("termination", "event") != 1 {
			return fmt.Errorf("%+v", s.all)
		}
		return nil
	})
	if s.sum("preempted", "event") != 1 || s.sum("preempted", "inc") != 1 {
		t.Errorf("%+v", s.all)
	}
	for _, m := range s.all {
		if m.Op == "event" && (m.Labels["event_type"] != m.Name || m.Labels["reason"] == "") {
			t.Errorf("%+v", m)
		}
	}
}

func TestPreemptionAndSIGTERMAtTheSameTimeAreOneEvent(t *testing.T) {
	t.Parallel()
	for range 10 {
		s, c, leave := newMetricsServer(t), newCloud(t), filepath.Join(t.TempDir(), "leave")
		w := start(t, options{
			env:    c.env("METRICS_SERVER_ADDRESS="+s.conn.LocalAddr().String(), "LEAVE="+leave),
			config: script("w", leavesLate),
		})
		w.stdout.waitFor(t, awake)
		c.watched()
		var wg sync.WaitGroup
		wg.Go(c.preempt)
		w.signal(syscall.SIGTERM)
		wg.Wait()
		w.stderr.waitFor(t, takenAway)
		allow(t, leave)
		if got := w.wait(); got != 0 {
			t.Errorf("exit code %d", got)
		}
		eventually(t, "both events are here", func() error {
			if p, e := s.sum("preempted", "event"), s.sum("termination", "event"); p == 0 || e == 0 {
				return fmt.Errorf("%v and %v", p, e)
			}
			return nil
		})
		<-time.After(50 * time.Millisecond) // in which there could be more
		if s.sum("preempted", "event") != 1 || s.sum("termination", "event") != 1 {
			t.Errorf("%+v", s.all)
		}
	}
}
