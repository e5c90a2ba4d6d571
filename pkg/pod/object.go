package pod

import (
	"fmt"
	"slices"
	"strings"
)

// object is what is read of a pod.
type object struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		RestartPolicy  string      `json:"restartPolicy"`
		Containers     []container `json:"containers"`
		InitContainers []container `json:"initContainers"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type    string `json:"type"`
			Status  string `json:"status"`
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"conditions"`
		ContainerStatuses []struct {
			Name  string `json:"name"`
			State struct {
				Terminated *struct {
					ExitCode int `json:"exitCode"`
				} `json:"terminated"`
			} `json:"state"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

type container struct {
	Name               string `json:"name"`
	RestartPolicy      string `json:"restartPolicy"`
	RestartPolicyRules []struct {
		ExitCodes struct {
			Operator string `json:"operator"`
			Values   []int  `json:"values"`
		} `json:"exitCodes"`
	} `json:"restartPolicyRules"` // all actions restart
}

// disruption returns why the pod is about to be taken away, or "".
func (o *object) disruption() string {
	for _, c := range o.Status.Conditions {
		if c.Type == "DisruptionTarget" && c.Status == "True" {
			reason := c.Reason
			if reason == "" {
				reason = "DisruptionTarget"
			}
			return reason
		}
	}
	return ""
}

// completed tells if the main containers have ended for good, and how. Without names of main containers these are
// all regular ones but our own. Where our own is not known either, it is the last one that runs, as we do; but
// in a pod with native sidecars we may be one of these, so that all have to end.
func (o *object) completed(own string, main []string) (reason string, done bool) {
	var ended, running []string
	known := 0
	for _, c := range o.Spec.Containers {
		if len(main) > 0 && !slices.Contains(main, c.Name) || len(main) == 0 && c.Name == own {
			continue
		}
		known++
		code, over := o.over(c)
		if over {
			ended = append(ended, fmt.Sprintf("%s (exit code %d)", c.Name, code))
		} else {
			running = append(running, c.Name)
		}
	}
	allowed := 0
	if len(main) == 0 && own == "" && !o.hasSidecars() {
		allowed = 1
	}
	if len(ended) == 0 || len(running) > allowed || known < len(main) {
		return "", false
	}
	return "completed: " + strings.Join(ended, ", "), true
}

// over tells if c has ended and will not be restarted, and its exit code.
func (o *object) over(c container) (code int, over bool) {
	for _, status := range o.Status.ContainerStatuses {
		if status.Name == c.Name && status.State.Terminated != nil {
			code = status.State.Terminated.ExitCode
			return code, !o.restarts(c, code)
		}
	}
	return 0, false
}

// restarts tells if the kubelet starts c again after that exit code.
func (o *object) restarts(c container, code int) bool {
	for _, rule := range c.RestartPolicyRules {
		if slices.Contains(rule.ExitCodes.Values, code) == (rule.ExitCodes.Operator == "In") {
			return true
		}
	}
	policy := c.RestartPolicy
	if policy == "" {
		policy = o.Spec.RestartPolicy
	}
	switch policy {
	case "Never":
		return false
	case "OnFailure":
		return code != 0
	default: // Always, and what we do not know
		return true
	}
}

// hasSidecars tells if there are native sidecars.
func (o *object) hasSidecars() bool {
	return slices.ContainsFunc(o.Spec.InitContainers, func(c container) bool { return c.RestartPolicy == "Always" })
}

// missing returns the first main container that the pod does not have.
func (o *object) missing(main []string) string {
	for _, name := range main {
		if !slices.ContainsFunc(o.Spec.Containers, func(c container) bool { return c.Name == name }) {
			return name
		}
	}
	return ""
}
