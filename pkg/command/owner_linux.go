package command

// book attributes the processes of one pass. The rules are in the package doc.
type book struct {
	self    int
	run     string
	procs   map[int]*proc
	living  map[int]bool      // our children, not collected
	orphans map[int]uint64    // our other children: seq when first seen
	bySeq   map[uint64]*Child // being swept
	byPID   map[int]*Child    // being swept, with a group of their own
	cookies map[int]uint64    // read so far
	lacked  error             // why something was not read that can be

	verdicts map[int]verdict
	heirs    map[int]*Child // learnt from a descendant's cookie
	sessions map[int]*Child // learnt from a member
}

type relation byte

const (
	outside relation = iota // not below us
	kept                    // a living child of ours, or below one
	unknown                 // below us; whose, nobody can tell
	owned                   // left behind by a child
)

type verdict struct {
	relation
	owner *Child
}

// close attributes every process and ends when nothing more can be learnt.
func (b *book) close() *census {
	b.heirs, b.sessions = make(map[int]*Child), make(map[int]*Child)
	for learnt := true; learnt; {
		learnt = false
		b.verdicts = make(map[int]verdict, len(b.procs))
		for pid := range b.procs {
			b.judge(pid)
		}
		strangers := make(map[int]bool) // sessions with members of unknown owner
		for pid, v := range b.verdicts {
			if v.relation == unknown {
				strangers[b.procs[pid].sid] = true
			}
		}
		for pid, v := range b.verdicts {
			if len(strangers) > 0 && v.relation == owned {
				learnt = b.learn(b.procs[pid], v.owner, strangers) || learnt
			}
		}
	}
	c := &census{of: make(map[*Child][]proc), procs: b.procs, err: b.lacked}
	for pid, v := range b.verdicts {
		p := b.procs[pid]
		if v.relation == outside || !p.alive() {
			continue
		}
		c.below = append(c.below, *p)
		if v.relation == owned {
			c.of[v.owner] = append(c.of[v.owner], *p)
		}
	}
	return c
}

// judge returns, and notes, whose process pid is.
func (b *book) judge(pid int) verdict {
	if v, ok := b.verdicts[pid]; ok {
		return v
	}
	b.verdicts[pid] = verdict{} // ends a circle, which only a torn read can make
	v := b.find(b.procs[pid])
	b.verdicts[pid] = v
	return v
}

func (b *book) find(p *proc) verdict {
	if p.pid == b.self {
		return verdict{}
	}
	if b.living[p.pid] {
		return verdict{relation: kept}
	}
	if p.ppid == b.self {
		return b.inspect(p)
	}
	parent := b.procs[p.ppid]
	if parent == nil || parent.start > p.start { // the parent is gone and its pid reused
		return verdict{}
	}
	v := b.judge(p.ppid)
	if v.relation == unknown {
		return b.inspect(p)
	}
	return v
}

// inspect judges a process below us whose ancestors say nothing.
func (b *book) inspect(p *proc) verdict {
	owner := b.heirs[p.pid]
	for _, id := range [2]int{p.pgrp, p.sid} {
		if owner == nil && !b.living[id] {
			owner = b.byPID[id]
		}
	}
	if owner == nil {
		owner = b.sessions[p.sid]
	}
	if owner == nil {
		owner = b.bySeq[b.cookie(p.pid)]
	}
	if owner == nil {
		return verdict{relation: unknown}
	}
	if seen, orphan := b.orphans[p.pid]; orphan && seen < owner.seq {
		return verdict{relation: unknown} // was there before its owner: a reused number
	}
	return verdict{owned, owner}
}

func (b *book) cookie(pid int) uint64 {
	seq, ok := b.cookies[pid]
	if !ok {
		var err error
		seq, err = readCookie(pid, b.run)
		b.note(err)
		b.cookies[pid] = seq
	}
	return seq
}

// note keeps an error that may be another one the next time.
func (b *book) note(err error) {
	if lacking(err) {
		b.lacked = err
	}
}

// learn concludes from a process of a child that its session, unless it is ours,
// and the ancestors it has below us are the child's too. It says whether that
// changes anything.
func (b *book) learn(p *proc, c *Child, strangers map[int]bool) (more bool) {
	if us := b.procs[b.self]; us != nil && p.sid != us.sid && strangers[p.sid] && b.sessions[p.sid] == nil {
		b.sessions[p.sid] = c
		more = true
	}
	for a := b.procs[p.ppid]; a != nil && b.verdicts[a.pid].relation == unknown && b.heirs[a.pid] == nil; a = b.procs[a.ppid] {
		b.heirs[a.pid] = c
		more = true
	}
	return more
}
