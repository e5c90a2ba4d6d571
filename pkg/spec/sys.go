package spec

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Cap is the number of a Linux capability.
type Cap int

// capNames are the capabilities in the order of their numbers, as
// linux/capability.h has them.
const capNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
	"NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE " +
	"SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL " +
	"SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"

// String returns CAP_NET_BIND_SERVICE for 10.
func (c Cap) String() string {
	names := strings.Fields(capNames)
	if c < 0 || int(c) >= len(names) {
		return strconv.Itoa(int(c))
	}
	return "CAP_" + names[c]
}

// allCaps are the capabilities that ALL stands for.
func allCaps() []Cap {
	all := make([]Cap, len(strings.Fields(capNames)))
	for i := range all {
		all[i] = Cap(i)
	}
	return all
}

// The kinds of lists of capabilities: names with or without CAP_, in any case,
// or numbers; where all are allowed, ALL too.
var (
	capabilities = &kind{name: "list of capabilities", form: capsForm, read: readCapsOrAll}
	ambientCaps  = &kind{name: "list of capabilities", form: capsForm, read: readCaps}
)

const capsForm = `{"type":"array","items":{"type":["string","integer"]}}`

func readCaps(d *decoder, a *at, _ *field, to reflect.Value) bool {
	return d.setCaps(a, false, to)
}

func readCapsOrAll(d *decoder, a *at, _ *field, to reflect.Value) bool {
	return d.setCaps(a, true, to)
}

func (d *decoder) setCaps(a *at, all bool, to reflect.Value) bool {
	elements, ok := d.elements(a, "a list")
	var caps []Cap
	for _, e := range elements {
		some, good := d.capability(e, all)
		ok = ok && good
		caps = append(caps, some...)
	}
	if ok {
		slices.Sort(caps)
		to.Set(reflect.ValueOf(slices.Compact(caps)))
	}
	return ok
}

func (d *decoder) capability(a *at, all bool) ([]Cap, bool) {
	s, ok := d.scalar(a, "a capability like NET_BIND_SERVICE")
	if !ok {
		return nil, false
	}
	names := strings.Fields(capNames)
	plain := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
	if all && plain == "ALL" {
		return allCaps(), true
	}
	if i := slices.Index(names, plain); i >= 0 {
		return []Cap{Cap(i)}, true
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < len(names) {
		return []Cap{Cap(n)}, true
	}
	d.errorf(a, didYouMean(plain, names), "is no capability: %s", quote(s))
	return nil, false
}

// Rlimit is a resource limit. A limit of Unlimited is none.
type Rlimit struct {
	Name       string // NOFILE
	Soft, Hard uint64
}

// Unlimited is RLIM_INFINITY.
const Unlimited = uint64(math.MaxUint64)

// rlimitNames are the limits of Linux.
const rlimitNames = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"

var rlimits = &kind{
	name: "map of limits",
	form: `{"type":"object","additionalProperties":{"anyOf":[` + limitForm +
		`,{"type":"object","additionalProperties":false,"properties":{"soft":` + limitForm + `,"hard":` + limitForm + `}}]}}`,
	read: readRlimits,
}

const limitForm = `{"type":["integer","string"]}`

// readRlimits reads a map of names, as in ulimit's manual with or without
// RLIMIT_, in any case, to one value or {soft, hard}.
func readRlimits(d *decoder, a *at, _ *field, to reflect.Value) bool {
	if !d.members(a, "write name: value") {
		return false
	}
	names := strings.Fields(rlimitNames)
	var limits []Rlimit
	for _, p := range a.pairs {
		m := a.member(p)
		plain := strings.TrimPrefix(strings.ToUpper(p.name), "RLIMIT_")
		if !slices.Contains(names, plain) {
			d.errorf(m.onKey(), didYouMean(strings.ToLower(plain), strings.Fields(strings.ToLower(rlimitNames))), "is no resource limit")
			continue
		}
		if slices.ContainsFunc(limits, func(l Rlimit) bool { return l.Name == plain }) {
			d.errorf(m.onKey(), "keep one of them", "is there twice")
			continue
		}
		l := Rlimit{Name: plain}
		d.rlimit(m, &l)
		limits = append(limits, l)
	}
	sort.Slice(limits, func(i, j int) bool { return limits[i].Name < limits[j].Name })
	to.Set(reflect.ValueOf(limits))
	return true
}

func (d *decoder) rlimit(a *at, l *Rlimit) {
	if a.node.Kind != yaml.MappingNode {
		l.Soft = d.limit(a)
		l.Hard = l.Soft
		return
	}
	d.members(a, "")
	soft, hard := a.get("soft"), a.get("hard")
	for _, p := range a.pairs {
		if p.name != "soft" && p.name != "hard" {
			d.errorf(a.member(p).onKey(), "known are soft, hard", "unknown key")
		}
	}
	if soft == nil && hard == nil {
		d.errorf(a, `write a number, "unlimited" or {soft: 1024, hard: 4096}`, "has no soft and no hard limit")
		return
	}
	if soft == nil {
		soft = hard
	}
	if hard == nil {
		hard = soft
	}
	if l.Soft, l.Hard = d.limit(soft), d.limit(hard); l.Soft > l.Hard {
		d.errorf(soft, "", "the soft limit is above the hard one")
	}
}

func (d *decoder) limit(a *at) uint64 {
	s, ok := d.scalar(a, `a number or "unlimited"`)
	if !ok {
		return 0
	}
	if s == "unlimited" || s == "infinity" || s == "-1" {
		return Unlimited
	}
	n, err := parseSize(s)
	if err != nil {
		d.errorf(a, `write a number, "64Ki" or "unlimited"`, "is no limit: %s", quote(s))
	}
	return uint64(max(n, 0))
}

var umask = &kind{name: "octal digits", form: `{"type":["string","integer"],"pattern":"^(0o)?[0-7]{1,4}$"}`, read: readUmask}

// readUmask reads octal digits, as the shell does: 22, 022, "0022" and 0o22
// are the same.
func readUmask(d *decoder, a *at, _ *field, to reflect.Value) bool {
	s, ok := d.scalar(a, `octal digits like "0022"`)
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err == nil && n <= 0o777 {
		to.SetInt(int64(n))
		return true
	}
	hint := `write octal digits: "0022"`
	if dec, decErr := strconv.ParseUint(s, 10, 32); decErr == nil && dec <= 0o777 && err != nil {
		hint = fmt.Sprintf("umask is read as octal: write %q", fmt.Sprintf("%04o", dec))
	}
	d.errorf(a, hint, "is no umask: %s", quote(s))
	return false
}
