// Package lease is the client of shared-lock. The documentation of package lock describes what goes
// over the wire: the client speaks /v1, and the old protocol to a server that answers it with 404.
//
// A [Client] acquires locks, a [Lock] is renewed and released. A [Guard] does all of that for what
// may only run while the lock is held.
//
// # The holder's rule
//
// A server may give a lock away as soon as its TTL has passed since it received the last request
// that it answered with success. When that was, the holder does not know; it knows when it sent the
// request, which was before. So a lock is good until
//
//	sent + TTL - margin      sent: before the last request that was acknowledged
//	                         margin: 10 % of the TTL, at least 50 ms: clocks run differently fast
//
// and what a guard protects must be dead by then. It is told a little before, at
//
//	sent + TTL - margin - stopping      stopping: 5 % of the TTL, 20 ms to 250 ms
//
// An acknowledgement that comes later than that is too late, whatever it says. All times are of
// CLOCK_BOOTTIME: the clock that Go uses stands still while a machine is suspended.
//
//	sent ──TTL/3──▶ renewal ──answer──▶ …
//	  │                └─ no answer within TTL/3: again, at the next server, until the deadline
//	  └───────────────────── deadline ──▶ lost ──▶ the TTL is over ──▶ another may hold it
//
// # Tokens
//
// Each hold of a key has a greater token than all before it. A server gives a session that asks
// again what it holds already, so that an answer that was lost does no harm. The client takes such a
// lock only if it never knew it: one that it tried to release may be released at any moment.
package lease
