package command

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// capPlan are sets of capabilities, bit n for capability n.
type capPlan struct {
	add, drop, ambient uint64
}

func planCaps(a *Attr) (p capPlan, err error) {
	if len(a.AmbientCaps)+len(a.CapAdd)+len(a.CapDrop) == 0 {
		return p, nil
	}
	ours, err := permitted()
	if err != nil {
		return p, &StartError{Step: "read our capabilities", Reason: ReasonAttribute, Err: err}
	}
	if p.ambient, err = capSet(a.AmbientCaps, ours); err != nil {
		return p, err
	}
	if p.add, err = capSet(a.CapAdd, ours); err != nil {
		return p, err
	}
	p.drop, err = capSet(a.CapDrop, math.MaxUint64)
	p.drop &^= p.add | p.ambient
	return p, err
}

// permitted returns the capabilities that this thread has.
func permitted() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, err
}

// capSet parses names; all is what ALL stands for.
func capSet(list []string, all uint64) (set uint64, err error) {
	for _, name := range list {
		want := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if want == "ALL" {
			set |= all
			continue
		}
		i := slices.IndexFunc(capability.ListKnown(), func(c capability.Cap) bool { return strings.ToUpper(c.String()) == want })
		if i < 0 {
			return 0, &StartError{Step: "set capabilities", Reason: ReasonAttribute,
				Err: fmt.Errorf("unknown capability %q: names are as in capabilities(7) without CAP_, such as NET_ADMIN, or ALL", name)}
		}
		set |= 1 << uint(capability.ListKnown()[i])
	}
	return set, nil
}

// capBitsOf lists the capabilities in a set.
func capBitsOf(set uint64) (list []int) {
	for ; set != 0; set &= set - 1 {
		list = append(list, bits.TrailingZeros64(set))
	}
	return list
}

// names lists a set as Kubernetes writes it.
func names(set uint64) string {
	var list []string
	for _, c := range capBitsOf(set) {
		list = append(list, strings.ToUpper(capability.Cap(c).String()))
	}
	return strings.Join(list, ", ")
}
