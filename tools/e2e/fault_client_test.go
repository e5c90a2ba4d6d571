package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func boottime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano()
}

// chronicle is what all clients of a run saw.
type chronicle struct {
	mu        sync.Mutex // guards what follows
	ops       []lockOp
	intervals map[string][]interval
	fence     map[string]int64 // the register of each key
	fenced    int              // writes that it refused
}

// begin notes a request that is sent now, and returns its id.
func (c *chronicle) begin(op lockOp) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	op.id, op.call, op.result = len(c.ops), boottime(), unknown
	op.ret = op.call
	c.ops = append(c.ops, op)
	return op.id
}

// answer notes how it was answered.
func (c *chronicle) answer(id, result int, token int64) lockOp {
	c.mu.Lock()
	defer c.mu.Unlock()
	op := &c.ops[id]
	op.result, op.ret = result, boottime()
	if token != 0 {
		op.token = token
	}
	return *op
}

// edit changes what is known of a request.
func (c *chronicle) edit(id int, f func(op *lockOp)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.ops[id])
}

// write is what a lock is for. The register refuses smaller tokens.
func (c *chronicle) write(key string, token int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fence[key] > token {
		c.fenced++
		return false
	}
	c.fence[key] = token
	return true
}

func (c *chronicle) held(key string, i interval) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intervals[key] = append(c.intervals[key], i)
}

// plain is a client that speaks /v1 itself.
type plain struct {
	id    int
	keys  []string
	urls  []string
	ttl   time.Duration
	http  *http.Client
	notes *chronicle
	rand  *rand.Rand
	last  lockName // that it had before, and may still have; none at first
}

// margin is what the holder's deadline is earlier than the TTL.
const margin = 100 * time.Millisecond

// run acquires, holds and releases until ctx ends.
func (p *plain) run(ctx context.Context) {
	for ctx.Err() == nil {
		key := p.keys[p.rand.IntN(len(p.keys))]
		op, waited, ok := p.acquire(ctx, key)
		if !ok {
			pause(ctx, time.Duration(5+p.rand.IntN(30))*time.Millisecond)
			continue
		}
		p.hold(ctx, op, op.call+waited+int64(p.ttl-margin))
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (p *plain) acquire(ctx context.Context, key string) (lockOp, int64, bool) {
	var wait time.Duration
	if p.rand.IntN(2) == 0 {
		wait = 300 * time.Millisecond
	}
	id := p.notes.begin(lockOp{client: p.id, what: opAcquire, key: key})
	var got struct {
		Token  int64
		Waited int64 `json:"waitedMs"`
	}
	status := p.ask(ctx, wait+2*p.ttl, "POST", "/v1/locks/"+key+"/acquire", fmt.Sprintf(`{"ttl":"%s","wait":"%s","owner":"client %d"}`, p.ttl, wait, p.id), &got)
	switch {
	case status == http.StatusCreated:
		return p.notes.answer(id, done, got.Token), got.Waited * int64(time.Millisecond), true
	case status == http.StatusConflict && wait == 0:
		p.notes.answer(id, refused, 0)
	case status == http.StatusConflict: // it says who held the key last, which nobody may any more
		p.notes.forget(id)
	default:
		p.notes.answer(id, unknown, 0)
	}
	return lockOp{}, 0, false
}

// forget makes an op one that says nothing.
func (c *chronicle) forget(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops[id].what, c.ops[id].result, c.ops[id].ret = opValidate, unknown, boottime()
}

// hold works under the lock, for a while or until the deadline.
func (p *plain) hold(ctx context.Context, op lockOp, until int64) {
	mine := interval{who: fmt.Sprintf("client %d", p.id), token: op.token, start: op.ret, end: boottime()}
	leave := boottime() + int64(p.rand.IntN(int(3*p.ttl)))
	renewAt := op.call + int64(p.ttl)/3
	for ctx.Err() == nil && boottime() < min(leave, until) {
		if boottime() >= renewAt {
			sent, gone := p.renewAny(ctx, op, time.Duration(until-boottime()))
			if gone {
				break
			}
			if sent > 0 {
				until = sent + int64(p.ttl-margin)
			}
			renewAt = boottime() + int64(p.ttl)/3
		}
		if p.rand.IntN(400) == 0 { // it freezes, and what it does first when it wakes up is too late
			pause(ctx, p.ttl*3/2)
			p.notes.write(op.key, op.token)
			break
		}
		now := boottime()
		if now < until && !p.notes.write(op.key, op.token) {
			p.notes.held(op.key, interval{who: "a write that was refused", token: op.token, start: now, end: now + 1})
		}
		if now < until {
			mine.end = now
		}
		pause(ctx, 3*time.Millisecond)
	}
	p.notes.held(op.key, mine)
	p.last = op.name()
	if p.rand.IntN(8) == 0 {
		return // it crashes
	}
	p.release(op)
}

// renew returns when a renewal was sent that was answered well, else 0.
func (p *plain) renew(ctx context.Context, op lockOp, left time.Duration) (sent int64, gone bool) {
	id := p.notes.begin(lockOp{client: p.id, what: opRenew, key: op.key, token: op.token})
	status := p.ask(ctx, min(p.ttl/3, left), "PUT", "/v1/locks/"+op.key+"/renew", fmt.Sprintf(`{"token":%d}`, op.token), nil)
	return p.judge(id, status, http.StatusOK), status == http.StatusGone
}

// renewAny renews alone, or together with the lock that it had before, which is gone most times.
func (p *plain) renewAny(ctx context.Context, op lockOp, left time.Duration) (sent int64, gone bool) {
	if p.rand.IntN(2) == 0 {
		return p.renew(ctx, op, left)
	}
	names := []lockName{op.name()}
	if p.last.token > 0 {
		names = append(names, p.last)
	}
	return p.renewTogether(ctx, left, names...)
}

// renewTogether is renew for several locks in one request; what it returns is about the first.
func (p *plain) renewTogether(ctx context.Context, left time.Duration, names ...lockName) (sent int64, gone bool) {
	type lock struct {
		Key    string `json:"key"`
		Token  int64  `json:"token"`
		Status string `json:"status,omitempty"`
	}
	var in, out struct {
		Locks []lock `json:"locks"`
	}
	var ids []int
	for _, name := range names {
		in.Locks = append(in.Locks, lock{Key: name.key, Token: name.token})
		ids = append(ids, p.notes.begin(lockOp{client: p.id, what: opRenew, key: name.key, token: name.token, together: true}))
	}
	body, err := json.Marshal(in)
	if err != nil {
		panic(err) // strings and numbers
	}
	status := p.ask(ctx, min(p.ttl/3, left), "PUT", "/v1/renew", string(body), &out)
	for i, id := range ids {
		told := 0
		if status == http.StatusOK && len(out.Locks) == len(names) && (lockName{out.Locks[i].Key, out.Locks[i].Token}) == names[i] {
			told = map[string]int{"ok": http.StatusOK, "gone": http.StatusGone}[out.Locks[i].Status]
		}
		if at := p.judge(id, told, http.StatusOK); i == 0 {
			sent, gone = at, told == http.StatusGone
		}
	}
	return sent, gone
}

// judge notes an answer, and returns when the request was sent if it was good.
func (p *plain) judge(id, status, good int) int64 {
	switch status {
	case good:
		return p.notes.answer(id, done, 0).call
	case http.StatusGone:
		p.notes.answer(id, refused, 0)
	default:
		p.notes.answer(id, unknown, 0)
	}
	return 0
}

// release gives back what it may have lost already.
func (p *plain) release(op lockOp) {
	id := p.notes.begin(lockOp{client: p.id, what: opRelease, key: op.key, token: op.token})
	status := p.ask(context.Background(), 2*p.ttl, "DELETE", fmt.Sprintf("/v1/locks/%s?token=%d", op.key, op.token), "", nil)
	p.judge(id, status, http.StatusNoContent)
}

// ask returns the status, 0 without an answer.
func (p *plain) ask(ctx context.Context, most time.Duration, method, path, body string, into any) int {
	ctx, cancel := context.WithTimeout(ctx, max(most, time.Millisecond))
	defer cancel()
	url := p.urls[p.rand.IntN(len(p.urls))]
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || into != nil && resp.StatusCode < 300 && json.Unmarshal(text, into) != nil {
		return 0
	}
	return resp.StatusCode
}
