package command

import "golang.org/x/sys/unix"

// dropBounding takes capabilities away for good, while we may.
func dropBounding(o *orders) error {
	for _, c := range capBitsOf(o.Drop) {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil || has == 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err == unix.EPERM && o.NoNewPrivs && unix.Geteuid() != 0 {
			continue // no way leads to it any more
		}
		if err != nil {
			return fail("drop capability "+names(1<<c), err, "needs CAP_SETPCAP; without it set noNewPrivs (allowPrivilegeEscalation: false), which has the same effect for a user other than root")
		}
	}
	return nil
}

// setCaps leaves the thread with what it may hand on.
func setCaps(o *orders) error {
	raise := o.Ambient
	if unix.Geteuid() != 0 {
		raise |= o.Add // root gets it from the bounding set
	}
	if o.Add|o.Drop|o.Ambient == 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fail("read capabilities", err, "")
	}
	permitted := uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
	inheritable := uint64(data[0].Inheritable) | uint64(data[1].Inheritable)<<32
	if lacking := (o.Ambient | o.Add) &^ permitted; lacking != 0 {
		return fail("add capability "+names(lacking), unix.EPERM, "the wrapper does not have it itself: give it to the container")
	}
	permitted &^= o.Drop
	inheritable = inheritable&^o.Drop | raise
	if unix.Geteuid() != 0 {
		permitted &= raise | inheritable
	}
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{Effective: uint32(permitted >> shift), Permitted: uint32(permitted >> shift), Inheritable: uint32(inheritable >> shift)}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fail("set capabilities", err, "")
	}
	for _, c := range capBitsOf(raise) {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fail("raise ambient capability "+names(1<<c), err, "")
		}
	}
	return nil
}
