// Package pod watches the pod that we run in, so that a sidecar ends when the main containers have, and a pod
// that Kubernetes is about to take away leaves service in time.
//
// It speaks REST: one watch of one pod, by field selector, so that a Role for this pod alone is enough:
//
//	rules:
//	- apiGroups: [""]
//	  resources: [pods]
//	  resourceNames: [my-pod] # or none, where the name is not known
//	  verbs: [get, list, watch]
//
// A watch that fails is replaced by a list every five seconds for a minute, then a watch is tried again. There is
// never more than one request in five seconds, but for one more after a 401, when the token has been changed.
//
// With native sidecars (Kubernetes 1.29 and later) Kubernetes itself ends a sidecar after the main containers.
package pod

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Config says which pod is watched, and who is told. [Config.Fill] completes it from the environment.
type Config struct {
	Server    string   // https://host:port
	Pod       string   // its name
	Namespace string   // its namespace
	Container string   // the container that we run in; "": found out, see [Config.Fill]
	Main      []string // the main containers; none: all regular ones but ours
	TokenFile string   // read for each request
	CAFile    string   // read for each request
	Logger    *slog.Logger

	// Done is called once, when the main containers have ended for good. Run returns after it.
	Done func(reason string)

	// Disruption is called when the condition DisruptionTarget of the pod becomes true, and with "" when
	// it is true no longer.
	Disruption func(reason string)
}

// Run watches until the main containers have ended or ctx ends, whatever the API server answers. It fails
// only for a Config that is incomplete.
func Run(ctx context.Context, c Config) error {
	w, err := newWatcher(c)
	if err != nil {
		return err
	}
	w.run(ctx)
	return nil
}

func newWatcher(c Config) (*watcher, error) {
	switch {
	case c.Server == "" || c.Pod == "" || c.Namespace == "":
		return nil, errors.New("watch pod: server, pod and namespace are needed")
	case c.TokenFile == "" || c.CAFile == "":
		return nil, errors.New("watch pod: the files of token and CA are needed")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Done == nil {
		c.Done = func(string) {}
	}
	if c.Disruption == nil {
		c.Disruption = func(string) {}
	}
	return &watcher{config: c, interval: 5 * time.Second, refusedPause: time.Minute, silence: 10 * time.Second, lifetime: 5 * time.Minute}, nil
}
