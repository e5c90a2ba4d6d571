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
	below  bool          // it is the main process, or descends from it without a gap
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
	// Of the look that is under way. Only Run touches these.
	cpu  time.Duration // ever used, over all incarnations
	line time.Duration // of that, see forest.reckon
	seen bool          // the main process was there
	sum  Usage

	// Of the last one, and of exits since. Guarded by the sampler's mu.
	counted time.Duration // cpu
	final   final
	usage   Usage
	history history
}

// final is what the exit status of a main process adds to what was sampled. The
// status has the CPU time of the process and of all that it, and they, waited for.
type final struct {
	pid     int           // of the current incarnation, or the last one
	sampled time.Duration // of it, what the status may have too
	total   time.Duration // what the status has; 0: it runs
	extra   time.Duration // what total has beyond sampled
	before  time.Duration // extra of all incarnations before
}

// is makes pid the current incarnation.
func (f *final) is(pid int) {
	if f.pid != pid {
		*f = final{pid: pid, before: f.before + f.extra}
	}
}

// reckon makes the larger one of sampled and total count. Who did not wait for
// a worker does not have its time: then less is counted than was used, but
// never anything twice.
func (f *final) reckon() { f.extra = max(f.total-f.sampled, 0) }

// used is what a tree is known to have used. It never falls.
func (t *tree) used() time.Duration {
	return max(t.counted+t.final.before+t.final.extra, t.usage.CPU)
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
	f.reckon()
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
	below := false
	if i >= 0 {
		t, below = f.cur[i].tree, f.cur[i].below
	}
	for _, i := range slices.Backward(chain) {
		s := &f.cur[i]
		if s.tree == nil {
			s.tree, s.below = t, below
		} else {
			s.below = true
		}
		if s.tree == nil && s.pid != f.self {
			s.tree = f.adopt(s)
		}
		t, below = s.tree, s.below && s.tree != nil
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

// reckon sums up what was counted of each main process and of what descends
// from it: what may show in its exit status too.
func (f *forest) reckon() {
	for _, t := range f.roots {
		t.line, t.seen = 0, false
	}
	for i := range f.cur {
		s := &f.cur[i]
		if s.tree == nil || !s.below {
			continue
		}
		s.tree.line += s.total() + s.unpaid
		s.tree.seen = s.tree.seen || f.roots[s.pid] == s.tree
	}
}
