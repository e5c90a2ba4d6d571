package spec

// sysProcAttr is the block as it is written.
type sysProcAttr struct {
	Chroot      string
	Credential  *credential
	Setsid      bool
	Setpgid     bool
	Pdeathsig   sig
	Ambientcaps []Cap
}

type credential struct {
	UID, GID *int
	Groups   []int
}

var sysProcAttrKeys = object{
	name: "sysProcAttr", doc: "Attributes of the process.",
	fields: []field{
		{key: "chroot", doc: "Root directory.", kind: filled, what: "directory"},
		{key: "credential", doc: "Whom it runs as.", kind: block, in: &credentialKeys},
		{key: "setsid", doc: "A session of its own.", kind: boolean, def: "false"},
		{key: "setpgid", doc: "A process group of its own: every process has one.", kind: boolean, def: "true"},
		{key: "pdeathsig", doc: "Signal that it gets when the wrapper dies.", kind: signal},
		{key: "ambientcaps", doc: "Capabilities to keep without root: names or numbers.", kind: ambientCaps},
	},
	refused: []refusal{
		{"in namespaces of their own the wrapper would not see its children", []string{"cloneflags", "unshareflags"}},
		{"stdin is /dev/null, and the wrapper owns groups, terminals and descriptors", []string{
			"ptrace", "setctty", "noctty", "ctty", "foreground", "pgid", "pidfd", "usecgroupfd", "cgroupfd", "uidmappings", "gidmappings", "gidmappingsenablesetgroups",
		}},
	},
	check: checkSysProcAttr,
}

func checkSysProcAttr(d *decoder, a *at, v any) {
	if !v.(*sysProcAttr).Setpgid {
		d.errorf(a.first("setpgid"), "take it out", "every process has a group of its own, so that its children can be stopped")
	}
}

var credentialKeys = object{
	name: "credential", doc: "Whom it runs as.",
	fields: []field{
		{key: "uid", doc: "User id.", kind: integer, high: maxID, to: "UID", needed: true},
		{key: "gid", doc: "Group id; the user's by default.", kind: integer, high: maxID, to: "GID"},
		{key: "groups", doc: "Supplementary groups; none by default.", kind: list, of: integer, high: maxID},
	},
	refused: []refusal{{"the supplementary groups are always set", []string{"noSetGroups"}}},
}

// security is securityContext as it is written.
type security struct {
	UID, GID     *int
	Groups       []int
	Caps         capChange
	Escalation   *bool
	RunAsNonRoot bool
}

type capChange struct{ Add, Drop []Cap }

var securityKeys = object{
	name: "securityContext", doc: "Whom it runs as.",
	fields: []field{
		{key: "runAsUser", doc: "User id.", kind: integer, high: maxID, to: "UID", kube: true},
		{key: "runAsGroup", doc: "Group id.", kind: integer, high: maxID, to: "GID", kube: true},
		{key: "supplementalGroups", doc: "Supplementary groups.", kind: list, of: integer, high: maxID, to: "Groups", kube: true},
		{key: "capabilities", doc: "Changes to the capabilities.", kind: block, in: &capChangeKeys, to: "Caps", kube: true},
		{key: "allowPrivilegeEscalation", doc: "false is noNewPrivs.", kind: boolean, to: "Escalation", kube: true},
		{key: "runAsNonRoot", doc: "Refuse to start as uid 0.", kind: boolean, kube: true, def: "false"},
	},
	inert: []string{
		"privileged", "readOnlyRootFilesystem", "seLinuxOptions", "windowsOptions", "seccompProfile", "appArmorProfile", "procMount",
		"fsGroup", "fsGroupChangePolicy", "sysctls", "supplementalGroupsPolicy", "seLinuxChangePolicy",
	},
}

var capChangeKeys = object{
	name: "capabilities", doc: "Changes to the capabilities.",
	fields: []field{
		{key: "add", doc: "Added: names, or ALL.", kind: capabilities, kube: true},
		{key: "drop", doc: "Dropped: names, or ALL.", kind: capabilities, kube: true},
	},
}

// resources is the block as it is written.
type resources struct{ Limits limits }

type limits struct{ Memory int64 }

var resourcesKeys = object{
	name: "resources", doc: "Limits.",
	fields: []field{{key: "limits", doc: "Limits.", kind: block, in: &limitsKeys, kube: true}},
	inert:  []string{"requests", "claims"},
}

var limitsKeys = object{
	name: "limits", doc: "Limits.", rest: true,
	fields: []field{{key: "memory", doc: "Restart it when its whole tree uses more.", kind: size, low: 1, kube: true}},
}
