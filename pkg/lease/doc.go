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
// Each hold of a key has a greater token than all before it. A server tells a session that asks for
// what it holds already. That is of a request whose answer was lost, and which the server may be
// about to undo, or of a release that did not get through and may yet do so. So such a lock is
// released, and acquired anew with a token of its own, which nothing that is under way can name.
package lease
