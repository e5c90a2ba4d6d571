package telemetry

import (
	"cmp"
	"slices"
	"time"
)

// stat is what the system says of one process at one moment.
type stat struct {
	pid, ppid, group, session int32
	start                     uint64        // with pid, what tells it from others
	own                       time.Duration // CPU time of its threads
	waited                    time.Duration // CPU time of the children that it waited for
	rss                       int64
	threads                   int32
	zombie                    bool

	known  bool          // whether its tree was looked for
	tree   *tree         // whose it is
	grown  time.Duration // by how much waited grew since the last look
	unpaid time.Duration // see settle
}

func (s *stat) total() time.Duration { return s.own + s.waited }

func (s *stat) is(o *stat) bool { return s.pid == o.pid && s.start == o.start }

// find returns the index of a pid, or -1.
func find(stats []stat, pid int32) int {
	i, ok := slices.BinarySearchFunc(stats, pid, func(s stat, pid int32) int { return cmp.Compare(s.pid, pid) })
	if !ok {
		return -1
	}
	return i
}

// tree is what is known of a process with all that descends from it.
type tree struct {
	cpu   time.Duration // ever used, over all incarnations
	sum   Usage         // of the look that is under way
	usage Usage         // of the last one
}

// forest divides the processes of the system among trees.
type forest struct {
	self      int32           // ourselves
	roots     map[int32]*tree // by pid of the main process
	prev, cur []stat          // of the last two looks, ascending by pid
	chain     []int           // of claim
}

// divide finds out whose each process is, and what each tree has used.
func (f *forest) divide() {
	for i := range f.cur {
		f.claim(i)
	}
	f.add()
	f.inherit()
	f.settle()
}

// claim looks for the tree of a process among its ancestors.
func (f *forest) claim(i int) {
	chain := f.chain[:0]
	for i >= 0 && !f.cur[i].known {
		s := &f.cur[i]
		s.known = true // a ring, which pids used again during the look can make, ends here
		chain = append(chain, i)
		if s.tree = f.roots[s.pid]; s.tree != nil || s.pid == f.self {
			break
		}
		i = -1
		if s.ppid != f.self {
			i = find(f.cur, s.ppid)
		}
	}
	var t *tree
	if i >= 0 {
		t = f.cur[i].tree
	}
	for _, i := range slices.Backward(chain) {
		s := &f.cur[i]
		if s.tree == nil {
			s.tree = t
		}
		if s.tree == nil && s.pid != f.self {
			s.tree = f.adopt(s)
		}
		t = s.tree
	}
	f.chain = chain
}

// adopt looks for the tree of a process that has lost its parents.
func (f *forest) adopt(s *stat) *tree {
	if i := find(f.prev, s.pid); i >= 0 && f.prev[i].is(s) && f.prev[i].tree != nil {
		return f.prev[i].tree
	}
	if t := f.roots[s.group]; t != nil {
		return t
	}
	return f.roots[s.session]
}

// add sums up each tree, and counts by how much each process has grown.
func (f *forest) add() {
	j := 0
	for i := range f.cur {
		s := &f.cur[i]
		for j < len(f.prev) && f.prev[j].pid < s.pid {
			j++
		}
		if s.tree == nil {
			continue
		}
		grown := s.total()
		if j < len(f.prev) && f.prev[j].is(s) && f.prev[j].tree != nil {
			p := &f.prev[j]
			grown = max(grown-p.total(), 0)
			s.grown = max(s.waited-p.waited, 0)
			s.unpaid = p.unpaid
		}
		s.tree.cpu += grown
		if s.zombie {
			continue
		}
		s.tree.sum.Memory += s.rss
		s.tree.sum.Threads += int(s.threads)
		s.tree.sum.Processes++
	}
}

// inherit finds for each process that is gone the nearest ancestor that is
// still there. It has waited for what is gone, whose time, already counted,
// will show in its own.
func (f *forest) inherit() {
	for j := range f.prev {
		gone := &f.prev[j]
		if gone.tree == nil || f.present(gone) >= 0 {
			continue
		}
		for up := find(f.prev, gone.ppid); up >= 0 && f.prev[up].tree == gone.tree; up = find(f.prev, f.prev[up].ppid) {
			if i := f.present(&f.prev[up]); i >= 0 {
				f.cur[i].unpaid += gone.total() + gone.unpaid
				break
			}
		}
	}
}

// present returns the index in cur of a process of prev, or -1.
func (f *forest) present(p *stat) int {
	if i := find(f.cur, p.pid); i >= 0 && f.cur[i].is(p) {
		return i
	}
	return -1
}

// settle takes back what was counted twice: for a process that is gone, and
// for the one that waited for it. A look is not one moment, so the second may
// show only in the next look: until then it stays unpaid.
func (f *forest) settle() {
	for i := range f.cur {
		s := &f.cur[i]
		if s.unpaid == 0 || s.tree == nil {
			continue
		}
		paid := min(s.unpaid, s.grown)
		s.unpaid -= paid
		s.tree.cpu -= paid
	}
}
