package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Embedded is an etcd of one member in this process.
type Embedded struct{ etcd *embed.Etcd }

// Embed starts an etcd that keeps its data in a directory and listens on a loopback address, such as
// "127.0.0.1:2379" or "127.0.0.1:0". It waits until etcd serves or ctx ends.
func Embed(ctx context.Context, dir, address string) (*Embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of etcd: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Name = "shared-lock"
	cfg.Dir = filepath.Join(dir, "etcd")
	client := url.URL{Scheme: "http", Host: address}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "error"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "revision", "10000"
	// Nobody else takes part in the election.
	cfg.TickMs, cfg.ElectionMs = 50, 500
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	e := &Embedded{etcd: server}
	select {
	case <-server.Server.ReadyNotify():
		return e, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-time.After(30 * time.Second):
		err = errors.New("it was not ready within 30 s")
	}
	e.Close()
	return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
}

// Endpoint is the address that it serves.
func (e *Embedded) Endpoint() string { return e.etcd.Clients[0].Addr().String() }

// Failed yields an error if etcd ends by itself.
func (e *Embedded) Failed() <-chan error { return e.etcd.Err() }

// Close ends it in order.
func (e *Embedded) Close() {
	e.etcd.Close()
}

// Client returns a client of a cluster with the settings that a [Store] needs. The caller's config
// says where it is and how to get in.
func Client(cfg clientv3.Config) (*clientv3.Client, error) {
	cfg.DialTimeout = callTimeout
	cfg.DialKeepAliveTime = 5 * time.Second // the most that etcd lets clients ask
	cfg.DialKeepAliveTimeout = callTimeout
	cfg.RejectOldCluster = false
	// grpc's own delay grows to 2 minutes: so long nobody would notice that etcd is back.
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: callTimeout,
		Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}}))
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client of etcd: %w", err)
	}
	return c, nil
}
