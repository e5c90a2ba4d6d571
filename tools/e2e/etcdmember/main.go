// Etcdmember runs one member of an etcd cluster until it is killed, for tests that do so.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	cfg := embed.NewConfig()
	fs := flag.NewFlagSet("etcdmember", flag.ExitOnError)
	fs.StringVar(&cfg.Name, "name", "m0", "")
	fs.StringVar(&cfg.Dir, "dir", "", "where it keeps its data")
	fs.StringVar(&cfg.InitialCluster, "cluster", "", "m0=http://host:port,…: the peer address of each")
	client, peer := fs.String("client", "", "URL for clients"), fs.String("peer", "", "URL for peers")
	var t transport.TLSInfo
	fs.StringVar(&t.CertFile, "cert", "", "for clients")
	fs.StringVar(&t.KeyFile, "key", "", "for clients")
	fs.StringVar(&t.TrustedCAFile, "ca", "", "that clients need a certificate of")
	_ = fs.Parse(args)
	t.ClientCertAuth = t.TrustedCAFile != ""
	cfg.ClientTLSInfo = t
	c, err := url.Parse(*client)
	if err != nil {
		return err
	}
	p, err := url.Parse(*peer)
	if err != nil {
		return err
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*c}, []url.URL{*c}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*p}, []url.URL{*p}
	cfg.LogLevel = "error"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.UnsafeNoFsync = true // what a killed process has written stays; only a crash of the machine would lose it
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
		fmt.Println("ready")
	case err := <-e.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-stop:
		return nil
	}
	select {
	case err := <-e.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-stop:
		return nil
	}
}
