// Package sink carries events to a store that may be slow, down or hanging, and loses none that it
// accepted. pkg/sink/loki and pkg/sink/search make one each; this package is what they share.
//
//	      Put           writer           sender
//	event ──> queue (memory) ──> spool (files) ──> store
//	            │  no SpoolDir, or its disk refuses  ↑ │
//	            └────────────────────────────────────┘ └──> dead-letter.ndjson
//
// # How to use one
//
//	s, err := loki.New(loki.Config{...})  // only checks; *sink.Sink
//	err = s.Run(ctx)                      // owns all goroutines; blocks
//	err = s.Put(&message)                 // from any goroutine, before and during Run; never blocks
//	stats := s.Stats()                    // any time, for metrics
//
// When ctx of Run ends, Put begins to return ErrClosed, so receivers are to be stopped first. Run
// then writes the queue to the spool, goes on sending while the store answers, and returns within
// Config.Deadline. Without a spool it retries until then. Its error is ErrLost if anything that Put
// accepted is gone; what is in the spool is not. A system call on a disk that hangs has no deadline:
// a command that must end leaves Run behind.
//
// # What is promised
//
// An event is accepted when Put returns nil. With SpoolDir it is in a file at most about 5 ms later,
// as long as the disk keeps up, and it leaves the file only when the store has acknowledged it or it
// was written to the dead-letter file. So when the process is killed at any moment (SIGKILL, OOM)
// what Put accepted in the last milliseconds is lost and nothing else; when the machine loses power,
// the last second with FsyncInterval, the last milliseconds with FsyncAlways. Events are sent in the
// order of Put, at least once: an answer that was lost means that the batch is sent again. Both
// stores can tell: search gives every document an _id, and Loki drops an entry that it has.
//
// Without SpoolDir what is in memory dies with the process.
//
// Put refuses (ErrFull) only when the queue is full, which with a spool means that the spool is full
// too or its disk is slower than the events. It drops the new event, never an old one.
//
// # What happens to an event that the store refuses
//
// The store's backend sorts every event of a batch into sent, retry, dead. Retries wait, twice as
// long each time, and hold back what comes after them, as order does. Dead ones go to
// dead-letter.ndjson below SpoolDir/Name, one object a line:
//
//	{"time":"...","sink":"search","reason":"...","key":"metric-events-2026-01-02","id":"...","event":{...}}
//
// event is the wire format, so they can be sent again: jq -c .event < dead-letter.ndjson | nc -NU SOCKET.
// The file is never removed or rotated; when it reaches DeadLetterBytes, or there is no SpoolDir,
// further ones are counted as dropped and Run reports them as lost.
package sink
