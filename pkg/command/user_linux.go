package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

const maxUserFile = 16 << 20 // bytes of passwd and group that are read

// ids are the resolved credentials of a process.
type ids struct {
	UID, GID uint32
	Groups   []uint32
}

// resolve returns the credentials that a asks for, nil if those are ours.
func resolve(a *Attr) (*ids, error) {
	if a.NonRoot && a.keepsIDs() && os.Geteuid() == 0 {
		return nil, errRoot
	}
	if a.keepsIDs() {
		return nil, nil
	}
	usr, grp := a.User, a.Group
	if a.UID != nil {
		usr = strconv.FormatUint(uint64(*a.UID), 10)
	}
	if a.GID != nil {
		grp = strconv.FormatUint(uint64(*a.GID), 10)
	}
	spec := usr
	if grp != "" {
		spec += ":" + grp
	}
	found, err := lookupUser(a.Chroot, spec)
	if err != nil {
		e := &StartError{Step: "set user " + cmp.Or(usr, "(ours)") + " group " + cmp.Or(grp, "(its own)"), Reason: ReasonUser, Err: err}
		if reasonOf(err) == ReasonResources {
			e.Reason = ReasonResources
		}
		return nil, e
	}
	if a.NonRoot && found.Uid == 0 {
		return nil, errRoot
	}
	id := &ids{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	if weAre(found) && haveGroups(a.Groups) {
		return nil, nil
	}
	for _, g := range found.Sgids {
		id.Groups = append(id.Groups, uint32(g))
	}
	id.Groups = append(id.Groups, a.Groups...)
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	return id, nil
}

var errRoot = &StartError{Step: "set user", Reason: ReasonUser, Err: errors.New("it would run as root, which runAsNonRoot forbids: give it another user")}

func (a *Attr) keepsIDs() bool {
	return a.User == "" && a.Group == "" && a.UID == nil && a.GID == nil && len(a.Groups) == 0
}

// weAre says whether we are that user already and cannot, and need not, become
// it: we are not root, or have not root's power to choose our groups.
func weAre(u *user.ExecUser) bool {
	if u.Uid != os.Geteuid() || u.Gid != os.Getegid() {
		return false
	}
	return os.Geteuid() != 0 || !mayBecome()
}

// mayBecome says whether we have the power to become others.
func mayBecome() bool {
	const needed = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	caps, err := permitted()
	return err != nil || caps&needed == needed
}

// lookupUser reads the passwd and group files that the process will see. They may
// be missing: numbers need none.
func lookupUser(root, spec string) (*user.ExecUser, error) {
	var files [2]io.Reader
	for i, name := range [2]string{"/etc/passwd", "/etc/group"} {
		f, err := openIn(root, name, os.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		defer f.Close()
		files[i] = io.LimitReader(f, maxUserFile)
	}
	defaults := &user.ExecUser{}
	if spec == "" || spec[0] == ':' { // no user: ours
		defaults.Uid, defaults.Gid = os.Geteuid(), os.Getegid()
		if spec == "" {
			return defaults, nil
		}
		spec = strconv.Itoa(defaults.Uid) + spec
	}
	return user.GetExecUser(spec, defaults, files[0], files[1])
}

// haveGroups says whether we are in all of these already.
func haveGroups(want []uint32) bool {
	have, err := os.Getgroups()
	return err == nil && !slices.ContainsFunc(want, func(g uint32) bool { return !slices.Contains(have, int(g)) })
}

// denied is the error for credentials that we may not take.
func (id *ids) denied(err syscall.Errno) error {
	have := fmt.Sprintf("needs root, or CAP_SETUID and CAP_SETGID; the wrapper runs as uid %d", os.Geteuid())
	if os.Geteuid() == 0 {
		have = "needs CAP_SETUID and CAP_SETGID, which the wrapper lacks although it is root"
	}
	return &StartError{Step: fmt.Sprintf("set user %d group %d", id.UID, id.GID), Reason: ReasonUser, Err: fmt.Errorf("%w: %s", err, have)}
}
