package e2e

import (
	"cmp"
	"fmt"
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

// What a client asks for. expire stands for what the server may do by itself.
const (
	opAcquire = iota
	opRenew
	opValidate
	opRelease
	opExpire
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
}

// lockModel says what a lock may do. The state is the token of the holder; 0: it is free.
var lockModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(lockOp).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) { return stepLock(state.(int64), input.(lockOp)) },
}

func stepLock(holder int64, op lockOp) (legal bool, next int64) {
	after := map[int]int64{opAcquire: op.token, opRenew: holder, opValidate: holder, opRelease: 0, opExpire: 0}[op.what]
	may := holder == op.token
	if op.what == opAcquire {
		may = holder == 0
	}
	switch {
	case op.what == opExpire && !may:
		return true, holder
	case op.result == refused:
		return !may, holder
	}
	return may, after
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
func linearizable(ops []lockOp) porcupine.CheckResult {
	history := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		history[i] = porcupine.Operation{ClientId: i, Input: op, Call: op.call, Return: op.ret}
	}
	return porcupine.CheckOperationsTimeout(lockModel, history, time.Minute)
}

// illegal shows for each key whose history cannot be, the last requests of the shortest part of it that
// cannot be: what was answered by a time, and what was asked by then and answered later.
func illegal(ops []lockOp) (found []string) {
	byKey := map[string][]lockOp{}
	for _, op := range ops {
		byKey[op.key] = append(byKey[op.key], op)
	}
	for key, ops := range byKey {
		if linearizable(ops) == porcupine.Ok {
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
		n := sort.Search(len(ops)-1, func(n int) bool { return linearizable(until(n)) != porcupine.Ok })
		found = append(found, key+" cannot be:")
		for _, op := range until(n)[max(0, n-11):] {
			found = append(found, "  "+op.String())
		}
	}
	return found
}

func (o lockOp) String() string {
	return fmt.Sprintf("client %d %s %d %s from %d to %d ms", o.client, []string{"acquire", "renew", "validate", "release", "expire"}[o.what], o.token,
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
func culprits(ops []lockOp) (found []string) {
	lives := map[lockName]*lockLife{}
	for _, op := range ops {
		if op.token == 0 {
			continue
		}
		if lives[op.name()] == nil {
			lives[op.name()] = &lockLife{end: never}
		}
		l := lives[op.name()]
		l.ops = append(l.ops, op)
		if op.what == opExpire || op.what == opRelease && op.result == done {
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

// certain makes of what clients saw a history that can be judged quickly. It adds that a lock may end
// after its TTL, or as soon as its release was sent; before a later one is answered, it must. Requests
// without an answer are left out: those for a lock make nobody a holder, but may be why another one
// was refused, about which then nothing is said, either.
func certain(ops []lockOp, ttl time.Duration) (all []lockOp) {
	over, grants, ghosts := facts(ops, ttl)
	haunted := func(op lockOp) bool {
		return slices.ContainsFunc(ghosts[op.key], func(g interval) bool { return g.start < op.ret && g.end > op.call })
	}
	for _, op := range ops {
		if op.result == unknown || op.what == opAcquire && op.result == refused && haunted(op) {
			continue
		}
		all = append(all, op)
		if op.what != opAcquire || op.result != done {
			continue
		}
		end := lockOp{what: opExpire, key: op.key, token: op.token, call: over[op.name()], ret: never}
		for _, later := range grants[op.key] {
			if later.token > op.token {
				end.ret = min(end.ret, max(later.ret, end.call))
			}
		}
		all = append(all, end)
	}
	return all
}

// facts are when each lock may end at the earliest, and by key who got it and when one may have had it who was not told.
func facts(ops []lockOp, ttl time.Duration) (over map[lockName]int64, grants map[string][]lockOp, ghosts map[string][]interval) {
	over, grants, ghosts = map[lockName]int64{}, map[string][]lockOp{}, map[string][]interval{}
	for _, op := range ops {
		if op.result == done && (op.what == opAcquire || op.what == opRenew) {
			over[op.name()] = max(over[op.name()], op.call+int64(ttl))
		}
	}
	for _, op := range ops {
		if op.queued > 0 { // the server may have tried, and undone it for a lease that was about to end
			ghosts[op.key] = append(ghosts[op.key], interval{start: op.queued, end: op.ret})
		}
		switch {
		case op.what == opRelease && op.result == unknown && over[op.name()] > 0:
			over[op.name()] = min(over[op.name()], op.call)
		case op.what == opAcquire && op.result == unknown:
			ghosts[op.key] = append(ghosts[op.key], interval{start: op.call, end: op.ret + int64(ghostTime)})
		case op.what == opAcquire && op.result == done:
			grants[op.key] = append(grants[op.key], op)
		}
	}
	return over, grants, ghosts
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
		"freed by another's release":           {[]lockOp{acquire(1, 5, 0, 1), {what: opRelease, result: unknown, key: "k", token: 4, call: 2, ret: 3}, acquire(2, 6, 4, 5)}, porcupine.Illegal},
		"freed by a release without an answer": {[]lockOp{acquire(1, 5, 0, 1), {what: opRelease, result: unknown, key: "k", token: 5, call: 2, ret: 3}, acquire(2, 6, 4, 5)}, porcupine.Ok},
		"freed before such a release":          {[]lockOp{acquire(1, 5, 0, 1), acquire(2, 6, 2, 3), {what: opRelease, result: unknown, key: "k", token: 5, call: 4, ret: 5}}, porcupine.Illegal},
		"refused to its holder":                {[]lockOp{acquire(1, 5, 0, 1), {what: opValidate, result: refused, key: "k", token: 5, call: 2, ret: 3}}, porcupine.Illegal},
	} {
		if got := linearizable(certain(test.ops, time.Second)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	other := func(what int, call, ret int64) lockOp {
		return lockOp{what: what, key: "other", token: 5, call: call, ret: ret}
	}
	both := []lockOp{acquire(1, 5, 0, 1), other(opAcquire, 0, 1), other(opRenew, second/2, second/2+1), acquire(2, 6, second*11/10, second*12/10)}
	if got := linearizable(certain(both, time.Second)); got != porcupine.Ok {
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
