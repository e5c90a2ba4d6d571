package wrapper

import (
	"context"
	"os"
	"strings"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	kube "github.com/process-wrapper/process-wrapper/pkg/pod"
	"github.com/process-wrapper/process-wrapper/pkg/preempt"
)

// terminable makes what watches the status of our pod, where that is wanted.
func (p *pod) terminable(f *flags, env *environment) error {
	if !enabled(env.handleTermination) {
		if f.MainContainers != "" {
			p.log.Warn("-main-containers does nothing without HANDLE_TERMINATION=true")
		}
		return nil
	}
	c := &kube.Config{
		Logger: p.log,
		Done: func(reason string) {
			p.log.Info("the main containers have ended", "reason", reason)
			p.units.End("main containers " + reason)
		},
		Disruption: p.disrupted,
	}
	for name := range strings.SplitSeq(f.MainContainers, ",") {
		if name = strings.TrimSpace(name); name != "" {
			c.Main = append(c.Main, name)
		}
	}
	if err := c.Fill(os.Getenv); err != nil {
		return cli.Usagef("HANDLE_TERMINATION: %w", err)
	}
	p.kube = c
	return nil
}

// disrupted is told why Kubernetes is about to take the pod away, "" when it is
// not any more.
func (p *pod) disrupted(reason string) {
	n := preempt.Notice{Active: reason != ""}
	if n.Active {
		n.Reason = "Kubernetes takes this pod away: " + reason
	}
	p.eviction.notice("pod", n)
}

func (p *pod) watchPod(ctx context.Context) {
	if err := kube.Run(ctx, *p.kube); err != nil {
		p.log.Error("the pod's status is not watched", "err", err)
	}
}
