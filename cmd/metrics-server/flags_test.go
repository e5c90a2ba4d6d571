package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// page returns /metrics.
func (v *serving) page() string {
	v.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + v.listener.Addr().String() + "/metrics")
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(page)
}

// until waits until a line is on the page.
func (v *serving) until(line string) {
	v.t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(v.page(), line+"\n"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			v.t.Fatalf("the page has no line %s:\n%s", line, v.page())
		}
	}
}

func TestFlagsDoWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	const good = `{"name":"good","op":"inc","value":1}`
	counter := func(label string) string {
		return fmt.Sprintf(`{"name":"a","op":"inc","value":1,"labels":{"x":%q}}`, label)
	}
	dropped := func(kind, reason string, n int) string {
		return fmt.Sprintf(`metrics_server_dropped_total{kind=%q,reason=%q} %d`, kind, reason, n)
	}
	for _, tt := range []struct {
		name string
		args string
		to   int // which socket
		send []string
		want string
	}{
		{"-allow-cidr keeps others out", "-allow-cidr=10.0.0.0/8,fd00::/8", 0, []string{good}, dropped("rejected", "source_not_allowed", 1)},
		{"-allow-cidr lets an address in", "-allow-cidr=127.0.0.1", 0, []string{good}, `good{data_source="127.0.0.1:0"} 1`},
		{"-allow-cidr knows IPv6", "-udp=[::1]:0 -allow-cidr=::1", 0, []string{good}, `good{data_source="[::1]:0"} 1`},
		{"-allow-cidr keeps others of IPv6 out", "-udp=[::1]:0 -allow-cidr=fe80::/10", 0, []string{good}, dropped("rejected", "source_not_allowed", 1)},
		{"-rate-limit", "-rate-limit=0.01", 0, []string{good, good}, dropped("rejected", "rate_limit", 1)},
		{"-rate-limit of IPv6", "-udp=[::1]:0 -rate-limit=0.01", 0, []string{good, good}, dropped("rejected", "rate_limit", 1)},
		{"-max-series", "-max-series=1", 0, []string{counter("1"), counter("2")}, dropped("rejected", "series_limit", 1)},
		{"-max-series-per-name", "-max-series-per-name=1", 0, []string{counter("1"), counter("2")}, dropped("rejected", "name_limit", 1)},
		{"-max-series-bytes", "-max-series-bytes=1000", 0, []string{counter("1"), counter(strings.Repeat("2", 900))}, dropped("rejected", "bytes_limit", 1)},
		{"-metric-ttl", "-metric-ttl=1ms", 0, []string{good}, "metrics_server_series_expired_total 1"},
		{"-extra-labels", "-extra-labels=b:1", 0, []string{good}, `good{b="1",data_source="127.0.0.1:0"} 1`},
		{"-statsd", "-statsd=localhost:0", 1, []string{"good:1|c"}, `good{data_source="localhost:0"} 1`},
		{"-receive-buffer", "-receive-buffer=8192", 0, []string{good}, `metrics_server_receive_buffer_bytes{listener="udp"} 8192`},
		{"-unixgram", "-unixgram=" + dir + "/gram.sock", 1, []string{good}, `good{data_source="` + dir + `/gram.sock",source_app="gram"} 1`},
		{"-uds-pool", "-uds-pool=" + dir + "/a.sock," + dir + "/b.sock", 2, []string{good}, `good{data_source="` + dir + `/b.sock",source_app="b"} 1`},
		{"-max-message", "-max-message=1024 -uds=" + dir + "/m.sock", 1, []string{`{"name":"` + strings.Repeat("x", 2000) + "\n"}, dropped("malformed", "too_long", 1)},
		{"no -allow-shutdown", "-uds=" + dir + "/s.sock", 1, []string{`{"op":"shutdown"}`}, dropped("rejected", "shutdown_not_allowed", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := serve(t, nil, strings.Fields(tt.args)...)
			for _, s := range tt.send {
				send(t, v.receiver.Addrs()[tt.to], s)
			}
			v.until(tt.want)
		})
	}
}

func TestFlagsOfStreamsDoWhatTheySay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	v := serve(t, nil, "-uds", path, "-uds-mode", "0600", "-max-connections", "1", "-idle-timeout", "200ms")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	conns := make([]net.Conn, 2)
	for i := range conns { // one that is silent, and one too many
		if conns[i], err = net.Dial("unix", path); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conns[i].Close() }()
	}
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
	}
	v.until(`metrics_server_connections_refused_total{listener="unix"} 1`)
}

func TestASocketForBothFamiliesTakesBoth(t *testing.T) {
	v := serve(t, nil, "-udp", ":0", "-allow-cidr", "127.0.0.0/8,::1/128")
	_, port, err := net.SplitHostPort(v.receiver.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		send(t, to, `{"name":"good","op":"inc","value":1}`)
	}
	v.until(`good{data_source=":0"} 2`)
}

func TestLimitsOfTheFlags(t *testing.T) {
	if l := parse(t, "-native-histograms", "-metric-clean-up=false").limits(); !l.Native || l.TTL >= 0 {
		t.Errorf("%+v", l)
	}
	if l := parse(t).limits(); l.Native || l.TTL != 24*time.Hour || l.Series != 100_000 {
		t.Errorf("by default %+v", l)
	}
}

func TestAFullQueueIsNotReady(t *testing.T) {
	v := serve(t, func(s *server) { s.full = func() bool { return true } })
	if got := v.status("/ready"); got != http.StatusServiceUnavailable {
		t.Errorf("/ready is %d", got)
	}
	if got := v.status("/health"); got != http.StatusOK {
		t.Errorf("/health is %d", got)
	}
}
