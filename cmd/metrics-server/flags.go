package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/collect"
	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// flags is the command line.
type flags struct {
	UDP      string `help:"UDP address for JSON; empty: none" name:"udp" default:":9999"`
	UDS      string `help:"unix stream socket for JSON; empty: none" name:"uds" default:"./metric-server.sock"`
	UDSPool  string `help:"more unix stream sockets, separated by commas; each one's name without .sock is the label source_app" name:"uds-pool" placeholder:"PATHS"`
	UDSMode  string `help:"mode of the unix sockets" name:"uds-mode" default:"0660"`
	Unixgram string `help:"unix datagram socket for JSON" placeholder:"PATH"`
	Statsd   string `help:"UDP address for statsd lines" placeholder:"ADDRESS"`
	Socket   string `help:"HTTP address for /metrics, /health and /ready" default:":9099"`
	Remote   string `help:"pass everything on to another metrics-server too" placeholder:"HOST:PORT"`

	ExtraLabels         string `help:"labels for every message" placeholder:"a:1,b:2"`
	ExtraLabelsFilePath string `help:"file with more of them, one key=\"value\" a line, as Kubernetes writes a pod's labels" placeholder:"PATH"`

	MetricCleanUp    bool          `help:"remove series that no message names for -metric-ttl" default:"true"`
	MetricTTL        time.Duration `help:"how long" name:"metric-ttl" default:"24h"`
	MaxSeries        int           `help:"how many series are kept" default:"100000"`
	MaxSeriesPerName int           `help:"how many of one name; 0: as -max-series" default:"0"`
	MaxSeriesBytes   int64         `help:"memory of all series; 0: 1 KiB for each of -max-series" default:"0"`
	NativeHistograms bool          `help:"make every histogram a native one too"`

	ReceiveBuffer  int           `help:"receive buffer of datagram sockets, in bytes" default:"4194304"`
	Readers        int           `help:"sockets that share the UDP port" default:"1"`
	QueueBytes     int           `help:"datagrams that may wait while the registry is busy" default:"8388608"`
	MaxConnections int           `help:"connections to each unix stream socket" default:"1024"`
	MaxMessage     int           `help:"largest message of a stream, in bytes" default:"65536"`
	IdleTimeout    time.Duration `help:"after which a silent connection is closed" default:"5m"`
	AllowCIDR      []string      `help:"networks that may send datagrams; may be given several times, or with commas" name:"allow-cidr" placeholder:"NETWORK"`
	RateLimit      float64       `help:"messages a second from one address over UDP; 0: any" default:"0"`
	AllowShutdown  bool          `help:"let a sender on a unix socket end the server with op shutdown"`

	sinkFlags `embed:""`

	PyroscopeURL string `help:"push profiles of metrics-server itself to this server" placeholder:"URL"`

	ShutdownDelay    time.Duration `help:"pause between SIGTERM and the end of receiving, in which /ready is 503" default:"0s"`
	ShutdownDeadline time.Duration `help:"how long the sinks may take at the end" default:"20s"`
}

// environment are the variables without a flag.
type environment struct{ searchURL, searchUser, searchPassword string }

func (e *environment) list() []cli.EnvVar {
	return []cli.EnvVar{
		{Name: "METRICS_SERVER_SEARCH_URL", Help: "Elasticsearch or OpenSearch for events and op index", Value: &e.searchURL},
		{Name: "METRICS_SERVER_SEARCH_USER", Help: "its user", Value: &e.searchUser},
		{Name: "METRICS_SERVER_SEARCH_PASSWORD", Help: "its password", Value: &e.searchPassword},
	}
}

// sockets returns where to listen.
func (f *flags) sockets() ([]collect.Socket, error) {
	mode, err := strconv.ParseUint(f.UDSMode, 8, 12)
	if err != nil || mode > 0o777 {
		return nil, fmt.Errorf("-uds-mode %q is no mode: write it as 0660", f.UDSMode)
	}
	var out []collect.Socket
	add := func(network, address string) {
		if address != "" {
			out = append(out, collect.Socket{Network: network, Address: address, Buffer: f.ReceiveBuffer, Readers: f.Readers, Mode: os.FileMode(mode)})
		}
	}
	add("udp", f.UDP)
	add("statsd", f.Statsd)
	add("unix", f.UDS)
	for path := range strings.SplitSeq(f.UDSPool, ",") {
		add("unix", strings.TrimSpace(path))
	}
	add("unixgram", f.Unixgram)
	seen := map[string]bool{}
	for _, s := range out {
		if seen[s.Address] {
			return nil, fmt.Errorf("%s is to be listened on twice", s.Address)
		}
		seen[s.Address] = true
	}
	if len(out) == 0 {
		return nil, errors.New("there is nothing to listen on: set -udp, -uds, -unixgram or -statsd")
	}
	return out, nil
}

func (f *flags) limits() collect.Limits {
	l := collect.Limits{Series: f.MaxSeries, SeriesPerName: f.MaxSeriesPerName, Bytes: f.MaxSeriesBytes, TTL: f.MetricTTL, Native: f.NativeHistograms}
	if !f.MetricCleanUp || f.MetricTTL == 0 {
		l.TTL = -1
	}
	return l
}

func (f *flags) networks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range f.AllowCIDR {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); err != nil && aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("-allow-cidr %q is no network: write 10.0.0.0/8, fd00::/8 or an address", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// check refuses numbers that make no sense.
func (f *flags) check() error {
	for _, n := range []struct {
		name  string
		value int64
		least int64
	}{
		{"-max-series", int64(f.MaxSeries), 1}, {"-max-series-per-name", int64(f.MaxSeriesPerName), 0}, {"-max-series-bytes", f.MaxSeriesBytes, 0},
		{"-receive-buffer", int64(f.ReceiveBuffer), 4096}, {"-readers", int64(f.Readers), 1}, {"-queue-bytes", int64(f.QueueBytes), 1 << 16},
		{"-max-connections", int64(f.MaxConnections), 1}, {"-max-message", int64(f.MaxMessage), 1024},
		{"-metric-ttl", int64(f.MetricTTL), 0}, {"-idle-timeout", int64(f.IdleTimeout), 1},
		{"-shutdown-delay", int64(f.ShutdownDelay), 0}, {"-shutdown-deadline", int64(f.ShutdownDeadline), 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("%s is %d, and must be at least %d", n.name, n.value, n.least)
		}
	}
	if !(f.RateLimit >= 0) {
		return fmt.Errorf("-rate-limit is %v, and must not be negative", f.RateLimit)
	}
	return nil
}

// labels returns the labels of -extra-labels and its file, which come second where both name one.
func (f *flags) labels() ([]datagram.Label, error) {
	var out []datagram.Label
	for pair := range strings.SplitSeq(f.ExtraLabels, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("-extra-labels: %q is no label: write name:value", pair)
		}
		out = append(out, datagram.Label{Name: collect.LabelName(name), Value: value})
	}
	if f.ExtraLabelsFilePath != "" {
		file, err := os.Open(f.ExtraLabelsFilePath)
		if err != nil {
			return nil, fmt.Errorf("-extra-labels-file-path: %w", err)
		}
		defer func() { _ = file.Close() }()
		more, err := datagram.ReadLabels(file)
		if err != nil {
			return nil, fmt.Errorf("-extra-labels-file-path: %s: %w", f.ExtraLabelsFilePath, err)
		}
		for _, l := range more {
			out = append(out, datagram.Label{Name: collect.LabelName(l.Name), Value: l.Value})
		}
	}
	for _, l := range out {
		if datagram.ReservedLabel(l.Name) {
			return nil, fmt.Errorf("extra labels: %q is a name that Prometheus keeps for itself", l.Name)
		}
	}
	return out, nil
}
