package lock

import (
	"context"
	"errors"
	"time"
)

// Errors of a [Store]. Every other error means that it is not known what happened.
var (
	ErrHeld  = errors.New("another holds the lock")
	ErrGone  = errors.New("the token holds the lock no more")
	ErrSlots = errors.New("the key is in use with another number of slots")
)

// Store keeps locks. Its methods may be called side by side, and return before ctx is long over.
type Store interface {
	// Acquire tries once. It returns the new holder; ErrHeld or ErrSlots come with a present one.
	// After any error, also that of ctx, the lock is not held, or is given back soon.
	Acquire(ctx context.Context, req Request) (Holder, error)
	// Renew prolongs locks by their TTL, from now on. It returns one answer for each, in time for clients
	// also where ctx does not end.
	Renew(ctx context.Context, refs []Ref) []Renewal
	// Release frees a lock: ErrGone if the token does not hold it.
	Release(ctx context.Context, ref Ref) error
	// Force frees a lock whoever holds it, and returns how many did.
	Force(ctx context.Context, name Name) (int, error)
	// EndSession frees what a session holds.
	EndSession(ctx context.Context, namespace, session string) error
	// Validate returns ErrGone if the token does not hold the lock at this moment.
	Validate(ctx context.Context, ref Ref) error
	// Holders returns who holds the keys that begin with name.Key, or just name.Key if exact, by key.
	Holders(ctx context.Context, name Name, exact bool) ([]Holder, error)
	// ByLease finds the lock of a lease that Acquire gave out: ErrGone if there is none.
	ByLease(ctx context.Context, lease int64) (Ref, error)
	// Ready returns an error if the store cannot work now.
	Ready(ctx context.Context) error
	// Cluster names the history that tokens belong to.
	Cluster() string
}

// Name says which lock is meant.
type Name struct {
	Namespace string // "" is the default one
	Key       string
}

// Ref is a lock as its holder names it. Token is the fencing token.
type Ref struct {
	Name
	Token int64
}

// Request is a wish to hold a lock.
type Request struct {
	Name
	Owner, Host, Pod string
	Labels           map[string]string
	TTL, LockDelay   time.Duration
	Session          string // "" for a lease of its own
	Reentrant        bool
	Slots            int  // at least 1
	Expose           bool // the client is told the lease, which is then never used again
}

// Holder is one who holds a lock.
type Holder struct {
	Ref
	Lease            int64 // a secret unless Request.Expose was set
	Slot, Slots      int
	Owner, Host, Pod string
	Labels           map[string]string
	AcquiredAt       time.Time
	TTL              time.Duration
	Remaining        time.Duration // -1: not known here
	Reentered        bool
}

// Renewal is the answer for one lock. Err is nil, ErrGone, or says why it is not known.
type Renewal struct {
	TTL time.Duration // 0 if the store does not know it
	Err error
}

// Event is a change of a lock. Without a name it says that events may have been missed.
type Event struct {
	Ref
	Freed    bool
	Revision int64 // grows from event to event
}
