package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// lockName tells one holding of a key from others. Keys that are written together have one token.
type lockName struct {
	key   string
	token int64
}

func (o lockOp) name() lockName { return lockName{o.key, o.token} }

// What a client asks for.
const (
	opAcquire = iota
	opRenew
	opValidate
	opRelease
)

// How it was answered.
const (
	done = iota
	refused
	unknown
)

// lockOp is one request of a client with its answer. Times are nanoseconds of CLOCK_BOOTTIME.
type lockOp struct {
	id, client, what, result int
	key                      string
	token                    int64
	call, ret                int64
	queued                   int64 // since when an acquire waited for the key, 0: it did not
	together                 bool  // a renewal of several locks
}

// lockState is what a lock may be at a time. What the server does by itself are steps that may be taken at any moment: a
// lock ends, a ghost comes or goes.
type lockState struct {
	holder int64        // its token; 0: the lock is free; -n: ghost n-1 has it
	ends   int64        // when the lock of a token may end, at the earliest
	now    int64        // the earliest that it may be
	used   [haunts]bool // ghosts that came already
}

// haunts is how many ghosts of a key are told apart. Those after them may come again.
const haunts = 256

// lockJudge knows what of a history is not for a moment: who may have had a lock without being told, and when a release
// was sent that had no answer.
type lockJudge struct {
	ttl    int64
	ghosts map[string][]interval
	freed  map[lockName]int64
}

func (j *lockJudge) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
			byKey := map[string][]porcupine.Operation{}
			for _, op := range history {
				key := op.Input.(lockOp).key
				byKey[key] = append(byKey[key], op)
			}
			return slices.Collect(maps.Values(byKey))
		},
		Init: func() []any { return []any{lockState{}} },
		Step: func(state, input, _ any) (next []any) {
			for _, s := range j.step(state.(lockState), input.(lockOp)) {
				if s.now <= input.(lockOp).ret {
					next = append(next, s)
				}
			}
			return next
		},
		Hash: func(state any) uint64 { return uint64(state.(lockState).holder) },
	}
	return m.ToModel()
}

// step returns what may be after a request that was answered. Who has the lock stays so for as long as the answers allow it:
// that it ends earlier allows nothing more, as it may end at every later moment, too.
func (j *lockJudge) step(s lockState, op lockOp) []lockState {
	s.now = max(s.now, op.call)
	if s.holder < 0 && j.ghosts[op.key][-s.holder-1].end < s.now {
		s = s.free(s.now)
	}
	acquires, refuses := op.what == opAcquire, op.result == refused
	switch {
	case acquires && refuses && s.holder == 0:
		return j.haunted(s, op)
	case acquires && !refuses:
		s = s.free(s.ends)
		s.holder, s.ends = op.token, j.until(op)
	case refuses && s.holder == op.token:
		s = s.free(s.ends)
	case refuses: // by another
	case s.holder != op.token:
		return nil
	case op.what == opRelease:
		s = s.free(s.now)
	case op.what == opRenew:
		s.ends = max(s.ends, j.until(op))
	}
	return []lockState{s}
}

// free is the state after the lock became free at a time or later.
func (s lockState) free(at int64) lockState {
	return lockState{now: max(s.now, at), used: s.used}
}

// until is when a lock may end at the earliest that was given or renewed by a request.
func (j *lockJudge) until(op lockOp) int64 {
	if at, ok := j.freed[op.name()]; ok {
		return min(at, op.call+j.ttl)
	}
	return op.call + j.ttl
}

// haunted returns by which ghost a free lock may have been refused. Of those that may have come by now, the one that
// has to go first will do: the others can follow it.
func (j *lockJudge) haunted(s lockState, op lockOp) (next []lockState) {
	first := -1
	come := func(i int) {
		after := s.free(j.ghosts[op.key][i].start)
		after.holder = -int64(i) - 1
		if i < haunts {
			after.used[i] = true
		}
		next = append(next, after)
	}
	for i, g := range j.ghosts[op.key] {
		switch {
		case i < haunts && s.used[i] || g.end < s.now || g.start > op.ret:
		case g.start > s.now:
			come(i)
		case first < 0 || g.end < j.ghosts[op.key][first].end:
			first = i
		}
	}
	if first >= 0 {
		come(first)
	}
	return next
}

// interval is a time in which a holder ran, or believed that it held.
type interval struct {
	who        string
	token      int64
	start, end int64
}

// overlaps names each pair of holders of one key that ran at one time, and tokens that do not grow.
func overlaps(key string, all []interval) (found []string) {
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if b.start < a.end {
			found = append(found, fmt.Sprintf("%s: %s (token %d) ran for %s after %s (token %d) had begun", key, a.who, a.token,
				time.Duration(a.end-b.start), b.who, b.token))
			b.end = max(a.end, b.end)
			all[i] = b
		}
		if b.token <= a.token {
			found = append(found, fmt.Sprintf("%s: %s got token %d after %d", key, b.who, b.token, a.token))
		}
	}
	return found
}

// linearizable judges a history of what clients were answered.
func linearizable(ops []lockOp, ttl time.Duration) porcupine.CheckResult {
	return newJudge(ops, ttl).check(ops)
}

func (j *lockJudge) check(ops []lockOp) porcupine.CheckResult {
	var history []porcupine.Operation
	for i, op := range ops {
		if op.result != unknown {
			history = append(history, porcupine.Operation{ClientId: i, Input: op, Call: op.call, Return: op.ret})
		}
	}
	return porcupine.CheckOperationsTimeout(j.model(), history, time.Minute)
}

// illegal shows for each key whose history cannot be, the last requests of the shortest part of it that
// cannot be: what was answered by a time, and what was asked by then and answered later.
func illegal(ops []lockOp, ttl time.Duration) (found []string) {
	judge, byKey := newJudge(ops, ttl), map[string][]lockOp{}
	for _, op := range ops {
		byKey[op.key] = append(byKey[op.key], op)
	}
	for key, ops := range byKey {
		if judge.check(ops) == porcupine.Ok {
			continue
		}
		slices.SortStableFunc(ops, func(a, b lockOp) int { return cmp.Compare(a.ret, b.ret) })
		until := func(n int) []lockOp {
			part := slices.Clone(ops[:n+1])
			for _, op := range ops[n+1:] {
				if op.call <= ops[n].ret {
					op.ret = never
					part = append(part, op)
				}
			}
			return part
		}
		n := sort.Search(len(ops)-1, func(n int) bool { return judge.check(until(n)) != porcupine.Ok })
		found = append(found, key+" cannot be:")
		for _, op := range until(n)[max(0, n-11):] {
			found = append(found, "  "+op.String())
		}
	}
	return found
}

func (o lockOp) String() string {
	return fmt.Sprintf("client %d %s %d %s from %d to %d ms", o.client, []string{"acquire", "renew", "validate", "release"}[o.what], o.token,
		[]string{"ok", "refused", "unknown"}[o.result], o.call/1e6, o.ret/1e6)
}

// lockLife is what became of one lock.
type lockLife struct {
	ops []lockOp
	end int64 // the earliest
}

// early says how a lock ended before it could have, if it did.
func (l *lockLife) early(name lockName, lives map[lockName]*lockLife) (how string) {
	for _, op := range l.ops {
		if op.result == refused && op.ret < l.end {
			how = "was refused to its holder"
		}
	}
	for other, next := range lives {
		if other.key == name.key && other.token > name.token && next.ops[0].ret < l.end {
			how = fmt.Sprintf("was given away as %d at %d ms", other.token, next.ops[0].ret/1e6)
		}
	}
	return how
}

// culprits shows what clients saw of each lock that another one got, or that was refused to its
// holder, before it could have ended.
func culprits(ops []lockOp, ttl time.Duration) (found []string) {
	judge := newJudge(ops, ttl)
	lives := map[lockName]*lockLife{}
	for _, op := range ops {
		if op.token == 0 {
			continue
		}
		l := lives[op.name()]
		if l == nil {
			l = &lockLife{}
			lives[op.name()] = l
		}
		l.ops = append(l.ops, op)
		if op.result == done && (op.what == opAcquire || op.what == opRenew) {
			l.end = max(l.end, judge.until(op))
		}
	}
	for _, op := range ops {
		if l := lives[op.name()]; l != nil && op.what == opRelease && op.result == done {
			l.end = min(l.end, op.call)
		}
	}
	for name, l := range lives {
		early := l.early(name, lives)
		if early == "" {
			continue
		}
		found = append(found, fmt.Sprintf("%s: token %d %s:", name.key, name.token, early))
		for _, op := range l.ops {
			found = append(found, "  "+op.String())
		}
	}
	return found
}

// never is the end of what may happen at any later time.
const never = math.MaxInt64 / 2

// ghostTime is how long after its client left an acquire without an answer may hold a key: the server gives up after 4 s,
// and what it cannot undo ends with a lease, which a new leader of etcd begins anew.
const ghostTime = 15 * time.Second

// newJudge reads from a history what is not for a moment. An acquire without an answer may have had the lock, once and for as long
// as it takes to end it, or not. So may one that waited and was answered: when etcd fails the server, it undoes what may have
// come of its try, and tries again. Without such a ghost no refusal is right while nobody has the lock.
func newJudge(ops []lockOp, ttl time.Duration) *lockJudge {
	j := &lockJudge{ttl: int64(ttl), ghosts: map[string][]interval{}, freed: map[lockName]int64{}}
	for _, op := range ops {
		switch {
		case op.what == opRelease && op.result == unknown:
			at, ok := j.freed[op.name()]
			if !ok || op.call < at {
				j.freed[op.name()] = op.call
			}
		case op.what == opAcquire && op.result == unknown:
			j.ghosts[op.key] = append(j.ghosts[op.key], interval{start: op.call, end: op.ret + int64(ghostTime)})
		case op.queued > 0:
			j.ghosts[op.key] = append(j.ghosts[op.key], interval{start: op.queued, end: op.ret})
		}
	}
	return j
}

func TestJudges(t *testing.T) {
	second := int64(time.Second)
	acquire := func(client int, token, call, ret int64) lockOp {
		return lockOp{client: client, what: opAcquire, key: "k", token: token, call: call, ret: ret}
	}
	for name, test := range map[string]struct {
		ops  []lockOp
		want porcupine.CheckResult
	}{
		"one after another":         {[]lockOp{acquire(1, 5, 0, 1), {what: opRelease, key: "k", token: 5, call: 2, ret: 3}, acquire(2, 6, 4, 5)}, porcupine.Ok},
		"two at once":               {[]lockOp{acquire(1, 5, 0, 1), acquire(2, 6, 2, 3)}, porcupine.Illegal},
		"after the end":             {[]lockOp{acquire(1, 5, 0, 1), acquire(2, 6, 2*second, 3*second)}, porcupine.Ok},
		"just before the end":       {[]lockOp{acquire(1, 5, 0, 1), acquire(2, 6, second/2, second*9/10)}, porcupine.Illegal},
		"a renewal counts":          {[]lockOp{acquire(1, 5, 0, 1), {what: opRenew, key: "k", token: 5, call: second / 2, ret: second * 6 / 10}, acquire(2, 6, second*11/10, second*12/10)}, porcupine.Illegal},
		"one that is gone too soon": {[]lockOp{acquire(1, 5, 0, 1), {what: opRenew, result: refused, key: "k", token: 5, call: 2, ret: 3}}, porcupine.Illegal},
		"refused while free":        {[]lockOp{{what: opAcquire, result: refused, key: "k", call: 0, ret: 1}}, porcupine.Illegal},
		"refused by a ghost": {[]lockOp{{what: opAcquire, result: unknown, key: "k", call: 0, ret: 1},
			{what: opAcquire, result: refused, key: "k", call: 2, ret: 3}, acquire(2, 6, 4, 5)}, porcupine.Ok},
		"refused while another waits": {[]lockOp{{what: opAcquire, result: refused, key: "k", call: 2, ret: 3},
			{what: opAcquire, key: "k", token: 6, call: 4, ret: 5, queued: 1}}, porcupine.Ok},
		"refused while another waits, and again after a lock": {[]lockOp{{what: opAcquire, result: refused, key: "k", call: 2, ret: 3},
			acquire(2, 5, 4, 5), {what: opRelease, key: "k", token: 5, call: 6, ret: 7}, {what: opAcquire, result: refused, key: "k", call: 8, ret: 9},
			{what: opAcquire, key: "k", token: 6, call: 10, ret: 11, queued: 1}}, porcupine.Illegal},
		"refused before another waits": {[]lockOp{{what: opAcquire, result: refused, key: "k", call: 0, ret: 1},
			{what: opAcquire, key: "k", token: 6, call: 4, ret: 5, queued: 2}}, porcupine.Illegal},
		"refused twice by one ghost": {[]lockOp{{what: opAcquire, result: unknown, key: "k", call: 0, ret: 1},
			{what: opAcquire, result: refused, key: "k", call: 2, ret: 3}, {what: opAcquire, result: refused, key: "k", call: 4, ret: 5}, acquire(2, 6, 6, 7)}, porcupine.Ok},
		"refused by a ghost that was gone": {[]lockOp{{what: opAcquire, result: unknown, key: "k", call: 0, ret: 1},
			{what: opAcquire, result: refused, key: "k", call: 2, ret: 3}, acquire(2, 6, 4, 5), {what: opRelease, key: "k", token: 6, call: 6, ret: 7},
			{what: opAcquire, result: refused, key: "k", call: 8, ret: 9}}, porcupine.Illegal},
		"refused by two ghosts, the longer one first": {[]lockOp{{what: opAcquire, result: unknown, key: "k", call: 0, ret: 10 * second},
			{what: opAcquire, result: unknown, key: "k", call: 0, ret: 1}, {what: opAcquire, result: refused, key: "k", call: 2, ret: 3},
			acquire(2, 6, 4, 5), {what: opRelease, key: "k", token: 6, call: 6, ret: 7}, {what: opAcquire, result: refused, key: "k", call: 20 * second, ret: 21 * second}}, porcupine.Ok},
		"refused long after a ghost": {[]lockOp{{what: opAcquire, result: unknown, key: "k", call: 0, ret: 1},
			{what: opAcquire, result: refused, key: "k", call: 20 * second, ret: 21 * second}}, porcupine.Illegal},
		"refused after a release": {[]lockOp{acquire(1, 5, 0, 1), {what: opRelease, key: "k", token: 5, call: 2, ret: 3},
			{what: opAcquire, result: refused, key: "k", call: 4, ret: 5}}, porcupine.Illegal},
		"renewed after the next one had it": {[]lockOp{acquire(1, 5, 0, 1), acquire(2, 6, 2*second, 3*second),
			{what: opRenew, key: "k", token: 5, call: 4 * second, ret: 5 * second}}, porcupine.Illegal},
		"freed by another's release":           {[]lockOp{acquire(1, 5, 0, 1), {what: opRelease, result: unknown, key: "k", token: 4, call: 2, ret: 3}, acquire(2, 6, 4, 5)}, porcupine.Illegal},
		"freed by a release without an answer": {[]lockOp{acquire(1, 5, 0, 1), {what: opRelease, result: unknown, key: "k", token: 5, call: 2, ret: 3}, acquire(2, 6, 4, 5)}, porcupine.Ok},
		"freed before such a release":          {[]lockOp{acquire(1, 5, 0, 1), acquire(2, 6, 2, 3), {what: opRelease, result: unknown, key: "k", token: 5, call: 4, ret: 5}}, porcupine.Illegal},
		"refused to its holder":                {[]lockOp{acquire(1, 5, 0, 1), {what: opValidate, result: refused, key: "k", token: 5, call: 2, ret: 3}}, porcupine.Illegal},
	} {
		if got := linearizable(test.ops, time.Second); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	other := func(what int, call, ret int64) lockOp {
		return lockOp{what: what, key: "other", token: 5, call: call, ret: ret}
	}
	both := []lockOp{acquire(1, 5, 0, 1), other(opAcquire, 0, 1), other(opRenew, second/2, second/2+1), acquire(2, 6, second*11/10, second*12/10)}
	if got := linearizable(both, time.Second); got != porcupine.Ok {
		t.Errorf("two keys that got one token: %s", got)
	}
	for want, all := range map[int][]interval{
		0: {{"a", 1, 0, 10}, {"b", 2, 10, 20}},
		1: {{"b", 2, 9, 20}, {"a", 1, 0, 10}},
		2: {{"a", 1, 0, 100}, {"b", 2, 9, 20}, {"c", 3, 30, 40}},
		3: {{"a", 3, 0, 100}, {"b", 4, 9, 20}, {"c", 4, 30, 40}},
	} {
		if got := overlaps("k", all); len(got) != want {
			t.Errorf("%v: %q, want %d", all, got, want)
		}
	}
}
