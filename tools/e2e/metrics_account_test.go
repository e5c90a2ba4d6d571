package e2e

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// overload sends many messages of a kind to a socket, each alone in its datagram or line.
func overload(t *testing.T, network, address string, n int, message func(i int) string) {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for i := range n {
		if _, err := conn.Write([]byte(message(i))); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestEverythingSentIsInOneCount overloads each place where a message can end, and adds up.
func TestEverythingSentIsInOneCount(t *testing.T) {
	c := collect(t, nil, "-receive-buffer", "524288", "-queue-bytes", "65536", "-max-series", "200")
	c.send("udp", `{"name":"taken","op":"set","value":1}`)
	c.until(1, "taken")
	pad := strings.Repeat("x", 20_000)
	messages := []func(i int) string{
		func(i int) string {
			return fmt.Sprintf(`{"name":"good","op":"inc","value":1,"labels":{"x":"%d"}}`, i%100)
		},
		func(i int) string { return fmt.Sprintf(`{"name":"many","op":"inc","value":1,"labels":{"x":"%d"}}`, i) },
		func(int) string { return `{"name":"bad","op":"inc","value":-1}` },
		func(int) string { return `{"name":"taken","op":"inc","value":1}` },
		func(int) string { return `{"pad":"` + pad + `","name":"good","op":"inc","value":1}` },
	}
	udp := func(i int) string { return messages[i%len(messages)](i) }
	stream := func(i int) string { return messages[i%4](i) + "\n" }
	lines := func(i int) string { // all in one piece, which holds the registry
		var b strings.Builder
		for j := range 500 {
			b.WriteString(stream(i*500 + j))
		}
		return b.String()
	}
	const datagrams, pieces = 10_000, 60
	applied := func() float64 { return c.sum("metrics_server_applied_total") }
	dropped := func(kind string) float64 { return c.sum("metrics_server_dropped_total", `kind="`+kind+`"`) }
	kernel := func() float64 { return c.sum("metrics_server_kernel_drops_total") }
	sent := 1.0
	for round := 0; round == 0 || round < 20 && dropped("queue") == 0; round++ { // it is for when one reads while another one writes, on two cores
		var senders sync.WaitGroup
		for range 2 {
			senders.Go(func() { overload(t, "udp", c.udp, datagrams, udp) })
			senders.Go(func() { overload(t, "unix", c.unix, pieces, lines) })
		}
		senders.Wait()
		sent += 2*datagrams + 2*500*pieces
	}
	_ = c.cmd.Process.Signal(syscall.SIGSTOP) // what the buffer does not hold is dropped by the kernel
	overload(t, "udp", c.udp, datagrams, udp)
	_ = c.cmd.Process.Signal(syscall.SIGCONT)
	sent += datagrams
	eventually(t, "the sum of all counts is what was sent", func() error {
		a, m, r, q, k := applied(), dropped("malformed"), dropped("rejected"), dropped("queue"), kernel()
		if a+m+r+q+k != sent {
			return fmt.Errorf("%v applied + %v malformed + %v rejected + %v of the queue + %v of the kernel are %v, not %v", a, m, r, q, k, a+m+r+q+k, sent)
		}
		return nil
	})
	t.Logf("%v sent: %v applied, %v malformed, %v rejected, %v dropped by the queue, %v by the kernel",
		sent, applied(), dropped("malformed"), dropped("rejected"), dropped("queue"), kernel())
	for what, n := range map[string]float64{
		"applied": applied(), "malformed": dropped("malformed"), "rejected": dropped("rejected"), "queue": dropped("queue"), "kernel": kernel(),
	} {
		if n == 0 {
			t.Errorf("%s is 0: it was not overloaded", what)
		}
	}
}

// paced sends counters and events over UDP at a steady rate, ten of each in a datagram.
func paced(t *testing.T, address string, perSecond int, d time.Duration) (each int) {
	t.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pad := strings.Repeat("y", 60)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < d; <-tick.C {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); each < due; each += 10 {
			var b strings.Builder
			for i := range 10 {
				fmt.Fprintf(&b, `{"name":"count","op":"inc","value":1}{"name":"e","op":"event","labels":{"n":"%d","pad":"%s"}}`, each+i, pad)
			}
			if _, err := conn.Write([]byte(b.String())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return each
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	rss, err := strconv.Atoi(strings.TrimSuffix(procStatus(t, pid)["VmRSS"], " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return rss
}

// TestStoresThatHangBoundMemory sends for longer than the queues last, without a spool.
func TestStoresThatHangBoundMemory(t *testing.T) {
	const queue = 2 << 20 // of each of two
	first, second := blackHole(t), blackHole(t)
	c := collect(t, []string{"METRICS_SERVER_SEARCH_URL=http://" + second}, "-loki-address", "http://"+first,
		"-sink-queue-bytes", fmt.Sprint(queue), "-shutdown-deadline", "100ms")
	sent := paced(t, c.udp, 10_000, 500*time.Millisecond) // what it takes to be warm
	before := residentKiB(t, c.cmd.Process.Pid)
	sent += paced(t, c.udp, 10_000, 5*time.Second)
	eventually(t, "all counters", func() error { // a busy machine may stop it for longer than the kernel has room
		if got, lost := c.sum("count"), c.sum("metrics_server_kernel_drops_total"); got+10*lost != float64(sent) {
			return fmt.Errorf("%v, and %v datagrams of ten were dropped, of %d", got, lost, sent)
		}
		return nil
	})
	for _, sink := range []string{"loki", "search"} {
		if c.sum("metrics_server_sink_dropped_total", `sink="`+sink+`"`, `reason="queue_full"`) == 0 {
			t.Errorf("the queue of %s was not full", sink)
		}
	}
	after := residentKiB(t, c.cmd.Process.Pid)
	t.Logf("%d counters and events, RSS %d KiB before, %d KiB after", sent, before, after)
	if most := 10 * 2 * queue >> 10; after-before > most {
		t.Errorf("memory grew from %d to %d KiB, which is more than ten times the queues", before, after)
	}
}
