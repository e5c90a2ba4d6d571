//go:build linux

// Udpload sends events over UDP at a steady rate, or receives datagrams and does no more than count them, as the
// least that a receiver can cost.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

const burst = 16 // datagrams in one call

func main() {
	to := flag.String("to", "", "send to this address")
	bare := flag.String("bare", "", "receive on this address, print the count at SIGTERM")
	rate := flag.Int("rate", 100_000, "events a second, 0: as fast as it goes")
	count := flag.Int("n", 1_500_000, "events")
	each := flag.Int("each", 1, "events in one datagram")
	format := flag.String("format", "json", "json or statsd")
	series := flag.Int("series", 100, "different series")
	ttl := flag.String("ttl", "", "ttl of each event")
	name := flag.String("name", "http_requests", "of the events")
	flag.Parse()
	var err error
	if *bare != "" {
		err = receive(*bare)
	} else {
		err = send(*to, *rate, *count, *each, events(*format, *name, *ttl, *series))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// events makes one event for each series, about 110 bytes of JSON or 47 of statsd.
func events(format, name, ttl string, series int) [][]byte {
	out := make([][]byte, series)
	for i := range out {
		s := fmt.Sprintf(`{"name":"%s_total","op":"inc","value":1,"labels":{"path":"/api/v1/items/%06d","code":"200"}}`, name, i)
		if ttl != "" {
			s = strings.TrimSuffix(s, "}") + fmt.Sprintf(`,"ttl":%q}`, ttl)
		}
		if format == "statsd" {
			s = fmt.Sprintf("%s_total:1|c|#path:%06d,code:200", name, i)
		}
		out[i] = []byte(s)
	}
	return out
}

func send(to string, rate, count, each int, events [][]byte) error {
	addr, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		return err
	}
	conns := make([]*ipv4.PacketConn, 4)
	for i := range conns {
		c, err := net.DialUDP("udp4", nil, addr)
		if err != nil {
			return err
		}
		defer c.Close()
		conns[i] = ipv4.NewPacketConn(c)
	}
	msgs := make([]ipv4.Message, burst)
	began := time.Now()
	sent, next := 0, 0
	for round := 0; sent < count; round++ {
		n := 0
		for ; n < burst && sent < count; n++ {
			k := min(each, count-sent)
			parts := make([][]byte, k)
			for j := range parts {
				parts[j] = events[next]
				next = (next + 1) % len(events)
			}
			msgs[n].Buffers = [][]byte{bytes.Join(parts, []byte{'\n'})}
			sent += k
		}
		for from := 0; from < n; {
			k, err := conns[round%len(conns)].WriteBatch(msgs[from:n], 0)
			if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				return err
			}
			from += max(k, 0)
		}
		if rate > 0 {
			if ahead := time.Duration(sent)*time.Second/time.Duration(rate) - time.Since(began); ahead > time.Millisecond {
				time.Sleep(ahead)
			}
		}
	}
	fmt.Printf("%d %.0f\n", sent, float64(sent)/time.Since(began).Seconds())
	return nil
}

func receive(address string) error {
	addr, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", addr)
	if err != nil {
		return err
	}
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		_ = conn.SetReadDeadline(time.Now())
	}()
	p := ipv4.NewPacketConn(conn)
	msgs := make([]ipv4.Message, 64)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	fmt.Println("listening", conn.LocalAddr())
	var datagrams, size int
	for {
		n, err := p.ReadBatch(msgs, 0)
		if err != nil {
			fmt.Println(datagrams, size)
			return nil
		}
		datagrams += n
		for _, m := range msgs[:n] {
			size += m.N
		}
	}
}
