package spec

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// checkEntry joins the two languages of an entry and checks what concerns more
// than one key. It is called only where the single keys are right.
func checkEntry(d *decoder, a *at, e *entry) {
	e.checkCommand(d, a)
	e.checkSame(d, a)
	e.checkIdentity(d, a)
	e.checkCaps(d, a)
	if e.readiness.Lock != nil && e.RestartPolicy == RestartNever {
		d.warnf(a.first("restartPolicy"), "use onFailure or always", "with never, a process that loses its lock is not started again")
	}
}

func (e *entry) checkCommand(d *decoder, a *at) {
	entrypoint, command := a.get("entrypoint"), a.get("command")
	switch {
	case e.entrypoint != "" && len(e.command) > 0:
		d.errorf(command.onKey(), "keep one: entrypoint and args, or Kubernetes' command and args", "entrypoint and command exclude each other")
	case len(e.command) > 0 && strings.TrimSpace(e.command[0]) == "":
		d.errorf(command, "", "its first element, the program, is empty")
	case len(e.command) > 0:
		e.Exec = Exec{Command: slices.Concat(e.command, e.args), Expand: ExpandKubernetes}
	case e.entrypoint != "":
		e.Exec = Exec{Command: append([]string{e.entrypoint}, e.args...), Expand: ExpandKnown}
		if len(e.args) == 0 && strings.ContainsAny(strings.TrimSpace(e.entrypoint), " \t\n") {
			d.warnf(entrypoint, "put the arguments into args", "has a space: it is one file name, not a command line")
		}
	case a.get("image") != nil:
		d.errorf(a.get("image").onKey(), "write it as command: docker inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' IMAGE shows it",
			"has an image and no command, and the image's own entrypoint cannot be known here")
	default:
		d.errorf(a, "", "has nothing to run: wants entrypoint or command")
	}
}

// checkSame joins keys that mean the same.
func (e *entry) checkSame(d *decoder, a *at) {
	if e.Dir != "" && e.workingDir != "" && e.Dir != e.workingDir {
		d.errorf(a.get("workingDir").onKey(), "keep one of them", "dir and workingDir differ")
	}
	e.Dir = cmp.Or(e.Dir, e.workingDir)
	if e.StopTimeout != nil && e.grace != nil && *e.StopTimeout != *e.grace {
		d.errorf(a.get("terminationGracePeriodSeconds").onKey(), "keep one of them", "stopTimeout and terminationGracePeriodSeconds differ")
	}
	e.StopTimeout = cmp.Or(e.StopTimeout, e.grace)
	e.Lifecycle = e.lifecycle.Lifecycle
	if s := e.lifecycle.stopSignal; s != 0 {
		if a.get("stopSignal") != nil && e.StopSignal != s {
			d.errorf(a.get("lifecycle").onKey(), "keep one of them", "stopSignal and lifecycle.stopSignal differ")
		}
		e.StopSignal = s
	}
	e.MemoryLimit = int64(e.memoryMB) << 20
	if m := e.resources.limits.memory; m > 0 {
		if e.memoryMB > 0 && m != e.MemoryLimit {
			d.errorf(a.get("resources").onKey(), "keep one of them", "memoryLimitMB and resources.limits.memory differ")
		}
		e.MemoryLimit = m
	}
}

// checkIdentity makes one identity of user and group, securityContext and
// sysProcAttr.credential, which exclude each other key by key.
func (e *entry) checkIdentity(d *decoder, a *at) {
	who := &e.Identity
	set := func(to *string, id, where string) {
		switch {
		case id == "":
		case *to != "" && *to != id:
			place := a.first(strings.Split(where, ".")[0])
			d.errorf(place.onKey(), "keep one: user and group, securityContext, or sysProcAttr.credential", "%s says whom to run as a second time, and differs", where)
		default:
			*to = id
		}
	}
	set(&who.User, e.user, "user")
	set(&who.User, number0(e.security.uid), "securityContext.runAsUser")
	set(&who.Group, e.group, "group")
	set(&who.Group, number0(e.security.gid), "securityContext.runAsGroup")
	who.Groups = numbers(e.security.groups)
	if c := e.sysProcAttr.credential; c != nil {
		set(&who.User, number0(c.uid), "sysProcAttr.credential")
		set(&who.Group, number0(c.gid), "sysProcAttr.credential")
		if c.groups != nil {
			who.Groups = numbers(c.groups)
		}
	}
	who.RunAsNonRoot = e.security.runAsNonRoot
	if who.RunAsNonRoot && (who.User == "0" || who.User == "root") {
		d.errorf(a.first("securityContext").onKey(), "give it another user", "runAsNonRoot is true and the user is %s", who.User)
	}
}

func number0(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func numbers(ns []int) []int64 {
	if ns == nil {
		return nil
	}
	out := make([]int64, len(ns))
	for i, n := range ns {
		out[i] = int64(n)
	}
	return out
}

func (e *entry) checkCaps(d *decoder, a *at) {
	s := e.sysProcAttr
	e.Sys.Chroot, e.Sys.Setsid, e.Sys.Pdeathsig, e.Sys.AmbientCaps = s.chroot, s.setsid, s.pdeathsig, s.ambientcaps
	e.Sys.AddCaps, e.Sys.DropCaps = e.security.caps.add, e.security.caps.drop
	e.Sys.NoNewPrivs = e.noNewPrivs
	esc := e.security.escalation
	if esc == nil {
		return
	}
	if *esc && e.noNewPrivs {
		d.errorf(a.get("securityContext").onKey(), "keep one of them", "allowPrivilegeEscalation: true contradicts noNewPrivs: true")
	}
	if !*esc && slices.Contains(e.security.caps.add, Cap(21)) {
		d.errorf(a.get("securityContext").onKey(), "", "allowPrivilegeEscalation: false contradicts the added CAP_SYS_ADMIN, as in Kubernetes")
	}
	e.Sys.NoNewPrivs = !*esc || e.noNewPrivs
}
