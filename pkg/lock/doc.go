// Package lock is the HTTP side of shared-lock, a lock service. What keeps the locks is a [Store];
// [etcdstore] keeps them in etcd.
//
// # Keys
//
// A key is 1 to 512 bytes of UTF-8 without control characters; slashes are fine. In a path a key is
// percent-encoded (url.PathEscape); raw slashes are understood as well, except where the key would
// end in the name of an operation. The header X-Lock-Namespace (or ?namespace=, 1 to 63 of
// A-Za-z0-9._-) chooses a namespace: keys in different ones have nothing in common.
//
// # Requests of /v1
//
// Bodies are JSON of at most 64 KiB, durations are Go's ("200ms", "10s"). Unknown fields are errors.
//
//	POST   /v1/locks/{key}/acquire[?wait=30s]   {"owner":"me","ttl":"10s", …}
//	PUT    /v1/locks/{key}/renew                {"token":123}
//	PUT    /v1/renew                            {"locks":[{"key":"a","token":123}, …]}
//	DELETE /v1/locks/{key}?token=123            release by the holder
//	DELETE /v1/locks/{key}?force                release by an operator: all holders
//	GET    /v1/locks/{key}                      who holds it
//	GET    /v1/locks?prefix=a/                  all locks below a prefix, by key; at most 10,000
//	GET    /v1/locks/{key}/validate?token=123   does this token still hold it
//	GET    /v1/events?prefix=a/                 server-sent events
//	DELETE /v1/sessions/{session}               release all of a session, at once
//
// Fields of acquire, all optional:
//
//	owner      string   shown to others
//	host, pod  string   shown to others
//	labels     map      shown to others
//	ttl        string   200ms … 24h, default 10s
//	wait       string   0s … 1h: how long to wait for the lock; ?wait= goes before it
//	session    string   16 to 128 bytes, a secret of the client, such as a random one for each start:
//	                    all its locks share one lease of etcd, which is cheaper
//	reentrant  bool     needs a session: if this session holds the key, it gets the same token again
//	slots      int      1 … 1000, default 1: how many may hold the key; the same for all who use it
//	lockDelay  string   0s … 1h: how long the key stays taken after its holder was lost (not released)
//
// # Answers
//
//	acquire 201  {"key":"a","token":123,"cluster":"cdf818194e3a8c32","ttlMs":10000,"waitedMs":0,"slot":0}
//	        200  the same, if the session held it already (reentrant)
//	        409  {"error":{"code":"held","message":"…"},"holder":{…}}
//	renew   200  {"key":"a","token":123,"ttlMs":10000}
//	        410  code gone: the token holds the key no more
//	renew of many
//	        200  {"locks":[{"key":"a","token":123,"status":"ok","ttlMs":10000}, …]} in the order of the
//	             request; status is ok, gone or unknown (retry: the server could not tell)
//	release 204  released;  410 code gone
//	force   200  {"key":"a","released":1}; 410 code gone: there was no holder
//	get     200  {"key":"a","holders":[{…}],"waiters":0}; 404 code not_held
//	list    200  {"locks":[{"key":"a","holders":[{…}],"waiters":0}, …]}
//	validate
//	        200  {"key":"a","token":123,"valid":true}; 410 {"error":…,"valid":false}
//	events  200  text/event-stream: "event: acquired|freed|reset" and "data: {"key":"a","token":123}".
//	             token is that of the holder who came or went. reset says that events may have been
//	             missed: read the state again. A comment line is sent every 15 s.
//	session 204
//
// A holder is {"owner","host","pod","labels","acquiredAt" (RFC 3339), "ttlMs", "remainingMs" (null
// where another replica of the server keeps the time), "slot"}. It never holds what one needs to act
// as the holder.
//
// token is the fencing token: the revision of etcd that created the key. It only grows for a key, as
// long as cluster, the id of the etcd cluster, stays the same. It is also in the header
// X-Fencing-Token.
//
// The lock is held for ttl from the moment that the client *sent* the request that was answered
// with 200 or 201 — of an acquire that waited, waitedMs later. The server never frees it earlier.
//
// # Errors
//
// The body is {"error":{"code":"…","message":"…"}}. The codes:
//
//	400 bad_request, bad_key, bad_ttl, bad_namespace    401 unauthorized   403 forbidden
//	404 not_found, not_held   405 method_not_allowed (with Allow)   413 too_large
//	409 held, slots_mismatch (others use the key with another number of slots)
//	410 gone   503 unavailable (with Retry-After)
//
// 503 says that the server does not know: a renewal may have happened or not, the lock may be held
// or not. It says nothing about who holds the lock: retry until your own deadline. An acquire that
// was answered with 503, or not at all, is undone by the server.
//
// # The old protocol
//
//	POST /lease      {"key","value","labels","timestamp"}, x-lease-ttl: 10s (default 10s)
//	                 201 and the lease id in decimal, or 202 without a body when another holds it
//	POST /keepalive  the lease id: 200, or 204 when the lock is gone
//
// Both give 400 with a line of text for bad input and 503 when the server does not know. /lease also
// understands ?wait=30s. DELETE /lease with the lease id as its body releases: 200, or 204 when the
// lock is gone already.
//
// GET /health is 200 while the server lives; GET /ready is 200 while it reaches etcd, else 503.
package lock
