package spec

import (
	"math"
)

// sysProcAttr is the block as it is written.
type sysProcAttr struct {
	chroot      string
	credential  *credential
	setsid      bool
	setpgid     bool
	pdeathsig   sig
	ambientcaps []Cap
}

type credential struct {
	uid, gid *int
	groups   []int
}

func sysProcAttrObject() *object[sysProcAttr] {
	id := integer(0, math.MaxUint32-1)
	cred := &object[credential]{name: "credential", doc: "Whom it runs as.", fields: []field[credential]{
		key("uid", "User id.", optional(id), func(c *credential) **int { return &c.uid }).require(),
		key("gid", "Group id; the user's by default.", optional(id), func(c *credential) **int { return &c.gid }),
		key("groups", "Supplementary groups; none by default.", list(id), func(c *credential) *[]int { return &c.groups }),
		refused[credential]("noSetGroups", "the supplementary groups are always set"),
	}}
	o := &object[sysProcAttr]{
		name: "sysProcAttr", doc: "Attributes of the process.",
		fields: []field[sysProcAttr]{
			key("chroot", "Root directory.", filled("directory"), func(s *sysProcAttr) *string { return &s.chroot }),
			block("credential", "Whom it runs as.", cred, func(s *sysProcAttr) **credential { return &s.credential }),
			keyOr("setsid", "A session of its own.", boolean(), false, func(s *sysProcAttr) *bool { return &s.setsid }),
			keyOr("setpgid", "A process group of its own: every process has one.", boolean(), true, func(s *sysProcAttr) *bool { return &s.setpgid }),
			key("pdeathsig", "Signal that it gets when the wrapper dies.", signal(), func(s *sysProcAttr) *sig { return &s.pdeathsig }),
			key("ambientcaps", "Capabilities to keep without root: names or numbers.", capabilities(false), func(s *sysProcAttr) *[]Cap { return &s.ambientcaps }),
		},
		check: func(d *decoder, a *at, s *sysProcAttr) {
			if !s.setpgid {
				d.errorf(a.first("setpgid"), "take it out", "every process has a group of its own, so that its children can be stopped")
			}
		},
	}
	for _, name := range []string{"cloneflags", "unshareflags"} {
		o.fields = append(o.fields, refused[sysProcAttr](name, "in namespaces of their own the wrapper would not see its children"))
	}
	for _, name := range []string{"ptrace", "setctty", "noctty", "ctty", "foreground", "pgid", "pidfd", "usecgroupfd", "cgroupfd", "uidmappings", "gidmappings", "gidmappingsenablesetgroups"} {
		o.fields = append(o.fields, refused[sysProcAttr](name, "stdin is /dev/null, and the wrapper owns groups, terminals and descriptors"))
	}
	return o
}

// refused is a key that would break what the wrapper promises.
func refused[S any](name, why string) field[S] {
	return field[S]{
		key: name, hidden: true,
		read: func(d *decoder, a *at, _ *S) { d.errorf(a.onKey(), "take it out", "cannot be honoured: %s", why) },
	}
}

// security is securityContext as it is written.
type security struct {
	uid, gid     *int
	groups       []int
	caps         capChange
	escalation   *bool
	runAsNonRoot bool
}

type capChange struct{ add, drop []Cap }

func securityObject() *object[security] {
	id := integer(0, math.MaxUint32-1)
	caps := &object[capChange]{name: "capabilities", doc: "Changes to the capabilities.", fields: []field[capChange]{
		key("add", "Added: names, or ALL.", capabilities(true), func(c *capChange) *[]Cap { return &c.add }).asKube(),
		key("drop", "Dropped: names, or ALL.", capabilities(true), func(c *capChange) *[]Cap { return &c.drop }).asKube(),
	}}
	o := &object[security]{name: "securityContext", doc: "Whom it runs as.", fields: []field[security]{
		key("runAsUser", "User id.", optional(id), func(s *security) **int { return &s.uid }).asKube(),
		key("runAsGroup", "Group id.", optional(id), func(s *security) **int { return &s.gid }).asKube(),
		key("supplementalGroups", "Supplementary groups.", list(id), func(s *security) *[]int { return &s.groups }).asKube(),
		sub("capabilities", "Changes to the capabilities.", caps, func(s *security) *capChange { return &s.caps }).asKube(),
		key("allowPrivilegeEscalation", "false is noNewPrivs.", optional(boolean()), func(s *security) **bool { return &s.escalation }).asKube(),
		keyOr("runAsNonRoot", "Refuse to start as uid 0.", boolean(), false, func(s *security) *bool { return &s.runAsNonRoot }).asKube(),
	}}
	for _, name := range []string{
		"privileged", "readOnlyRootFilesystem", "seLinuxOptions", "windowsOptions", "seccompProfile", "appArmorProfile", "procMount",
		"fsGroup", "fsGroupChangePolicy", "sysctls", "supplementalGroupsPolicy", "seLinuxChangePolicy",
	} {
		o.fields = append(o.fields, inert[security](name))
	}
	return o
}

// resources is the block as it is written.
type resources struct{ limits limits }

type limits struct{ memory int64 }

func resourcesObject() *object[resources] {
	lim := &object[limits]{name: "limits", doc: "Limits.", rest: true, fields: []field[limits]{
		key("memory", "Restart it when its whole tree uses more.", size(1), func(l *limits) *int64 { return &l.memory }).asKube(),
	}}
	return &object[resources]{name: "resources", doc: "Limits.", fields: []field[resources]{
		sub("limits", "Limits.", lim, func(r *resources) *limits { return &r.limits }).asKube(),
		inert[resources]("requests"),
		inert[resources]("claims"),
	}}
}
