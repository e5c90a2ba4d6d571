// Shared-lock serves locks that are kept in etcd, and runs commands under them.
package main

import (
	"context"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// flags is the command line.
type flags struct {
	Listen            string        `help:"address to listen on" env:"SHARED_LEASE_SOCKET" default:":8191"`
	EtcdEndpoints     string        `help:"members of etcd, separated by commas" env:"SHARED_LEASE_ETCD_ENDPOINTS" default:"localhost:2379"`
	EtcdPrefix        string        `help:"what the keys in etcd begin with" default:"/shared-lock/"`
	EmbeddedEtcd      string        `help:"run an etcd of one member, on loopback, that keeps its data here" placeholder:"DIR"`
	SharedLockEtcdTLS bool          `help:"use TLS to etcd" name:"shared-lock-etcd-tls"`
	EtcdCACert        string        `help:"file with the CA of etcd" env:"SHARED_LEASE_ETCD_CA_CERT" name:"etcd-ca-cert" placeholder:"FILE"`
	EtcdClientCert    string        `help:"file with our certificate for etcd" env:"SHARED_LEASE_ETCD_CLIENT_CERT" placeholder:"FILE"`
	EtcdClientKey     string        `help:"file with the key to it" env:"SHARED_LEASE_ETCD_CLIENT_KEY" placeholder:"FILE"`
	TLSCert           string        `help:"file with the certificate of this server" placeholder:"FILE"`
	TLSKey            string        `help:"file with the key to it" placeholder:"FILE"`
	TLSClientCA       string        `help:"file with the CA that clients must have a certificate of" name:"tls-client-ca" placeholder:"FILE"`
	AccessFile        string        `help:"JSON file with bearer tokens and their rights; without it everybody may do everything" placeholder:"FILE"`
	ShutdownDelay     time.Duration `help:"how long /ready says no before connections are refused" default:"0s"`

	Serve   struct{}   `cmd:"" default:"withargs" hidden:""`
	Run     runCmd     `cmd:"" help:"run a command while holding a lock"`
	Ls      lsCmd      `cmd:"" help:"list locks"`
	Inspect inspectCmd `cmd:"" help:"show who holds a lock"`
	Release releaseCmd `cmd:"" help:"free a lock by its token, or by force"`
}

// remote says which server a subcommand asks, and as who.
type remote struct {
	URL       string `help:"the server" default:"http://localhost:8191" name:"shared-lock-url"`
	TokenFile string `help:"file with the bearer token" placeholder:"FILE"`
	CACert    string `help:"file with the CA of the server" name:"ca-cert" placeholder:"FILE"`
	Cert      string `help:"file with a certificate for the server" placeholder:"FILE"`
	Key       string `help:"file with the key to it" placeholder:"FILE"`
	Namespace string `help:"namespace of the keys"`
}

func main() {
	var f flags
	cli.Main(cli.Program{
		Name:  "shared-lock",
		About: "Serves locks that are kept in etcd.",
		Flags: &f,
		Run:   func(ctx context.Context, call *cli.Call) error { return run(ctx, &f, call) },
	})
}

func run(ctx context.Context, f *flags, call *cli.Call) error {
	switch call.Command {
	case "run":
		return f.Run.run(ctx, call)
	case "ls":
		return f.Ls.run(ctx, call)
	case "inspect":
		return f.Inspect.run(ctx, call)
	case "release":
		return f.Release.run(ctx, call)
	}
	return serve(ctx, f, call.Log)
}
