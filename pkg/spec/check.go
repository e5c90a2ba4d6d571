package spec

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// checkEntry joins the two languages of an entry and checks what concerns more
// than one key. It is called only where the single keys are right.
func checkEntry(d *decoder, a *at, v any) {
	e := v.(*entry)
	e.checkCommand(d, a)
	e.checkSame(d, a)
	e.checkIdentity(d, a)
	e.checkCaps(d, a)
	if e.Checks.Lock != nil && e.RestartPolicy == RestartNever {
		d.warnf(a.first("restartPolicy"), "use onFailure or always", "with never, a process that loses its lock is not started again")
	}
}

func (e *entry) checkCommand(d *decoder, a *at) {
	entrypoint, command := a.get("entrypoint"), a.get("command")
	switch {
	case e.Entrypoint != "" && len(e.Command) > 0:
		d.errorf(command.onKey(), "keep one: entrypoint and args, or Kubernetes' command and args", "entrypoint and command exclude each other")
	case len(e.Command) > 0 && strings.TrimSpace(e.Command[0]) == "":
		d.errorf(command, "", "its first element, the program, is empty")
	case len(e.Command) > 0:
		e.Exec = Exec{Command: slices.Concat(e.Command, e.Args), Expand: ExpandKubernetes}
	case e.Entrypoint != "":
		e.Exec = Exec{Command: append([]string{e.Entrypoint}, e.Args...), Expand: ExpandKnown}
		if len(e.Args) == 0 && strings.ContainsAny(strings.TrimSpace(e.Entrypoint), " \t\n") {
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
	if e.Dir != "" && e.WorkingDir != "" && e.Dir != e.WorkingDir {
		d.errorf(a.get("workingDir").onKey(), "keep one of them", "dir and workingDir differ")
	}
	e.Dir = cmp.Or(e.Dir, e.WorkingDir)
	if e.StopTimeout != nil && e.Grace != nil && *e.StopTimeout != *e.Grace {
		d.errorf(a.get("terminationGracePeriodSeconds").onKey(), "keep one of them", "stopTimeout and terminationGracePeriodSeconds differ")
	}
	e.StopTimeout = cmp.Or(e.StopTimeout, e.Grace)
	e.Lifecycle = e.Hooks.Lifecycle
	if s := e.Hooks.StopSignal; s != 0 {
		if a.get("stopSignal") != nil && e.StopSignal != s {
			d.errorf(a.get("lifecycle").onKey(), "keep one of them", "stopSignal and lifecycle.stopSignal differ")
		}
		e.StopSignal = s
	}
	e.MemoryLimit = int64(e.MemoryMB) << 20
	if m := e.Resources.Limits.Memory; m > 0 {
		if e.MemoryMB > 0 && m != e.MemoryLimit {
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
	set(&who.User, e.User, "user")
	set(&who.User, number0(e.Security.UID), "securityContext.runAsUser")
	set(&who.Group, e.Group, "group")
	set(&who.Group, number0(e.Security.GID), "securityContext.runAsGroup")
	who.Groups = numbers(e.Security.Groups)
	if c := e.SysProcAttr.Credential; c != nil {
		set(&who.User, number0(c.UID), "sysProcAttr.credential")
		set(&who.Group, number0(c.GID), "sysProcAttr.credential")
		if c.Groups != nil {
			who.Groups = numbers(c.Groups)
		}
	}
	who.RunAsNonRoot = e.Security.RunAsNonRoot
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
	s := e.SysProcAttr
	e.Sys.Chroot, e.Sys.Setsid, e.Sys.Pdeathsig, e.Sys.AmbientCaps = s.Chroot, s.Setsid, s.Pdeathsig, s.Ambientcaps
	e.Sys.AddCaps, e.Sys.DropCaps = e.Security.Caps.Add, e.Security.Caps.Drop
	e.Sys.NoNewPrivs = e.NoNewPrivs
	esc := e.Security.Escalation
	if esc == nil {
		return
	}
	if *esc && e.NoNewPrivs {
		d.errorf(a.get("securityContext").onKey(), "keep one of them", "allowPrivilegeEscalation: true contradicts noNewPrivs: true")
	}
	if !*esc && slices.Contains(e.Security.Caps.Add, Cap(21)) {
		d.errorf(a.get("securityContext").onKey(), "", "allowPrivilegeEscalation: false contradicts the added CAP_SYS_ADMIN, as in Kubernetes")
	}
	e.Sys.NoNewPrivs = !*esc || e.NoNewPrivs
}
