// Metrics-server receives metrics and events as JSON over UDP and unix sockets, serves the metrics to Prometheus
// and passes the events on.
package main

import (
	"context"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

func main() {
	var f flags
	var env environment
	cli.Main(program(&f, &env))
}

// program fills f and env, and runs.
func program(f *flags, env *environment) cli.Program {
	return cli.Program{
		Name:  "metrics-server",
		About: "Receives metrics and events over UDP and unix sockets, for Prometheus, Loki and Elasticsearch or OpenSearch.",
		Flags: f,
		Env:   env.list(),
		Run:   func(ctx context.Context, call *cli.Call) error { return run(ctx, f, env, call.Log) },
	}
}
