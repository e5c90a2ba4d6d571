// Package output carries what child processes write to their stdout and stderr, line by line, to a file of ours.
//
// A [Pump] owns one destination. Each child's stream is a pipe whose read end the pump keeps: one goroutine, one epoll
// descriptor and one read buffer serve all of them, so that a thousand idle children cost a few hundred bytes each.
//
//	s, err := pump.Open(output.StreamConfig{Name: "web", Out: "stdout"})
//	start the child with s.File() as its stdout; when that fails: s.Close()
//	s.Attach(pid)   // closes our copy of the write end; the lines flow from here on
//	s.Drain(ctx)    // after the exit: to the end of the pipe, or as much as it holds when ctx ends
//
// # What is promised
//
// Every byte reaches the destination exactly once and in the order in which the child wrote it, the unterminated last
// line included. Lines are never mixed with those of another child. What is dropped all the same is counted, by
// [Reason]. A destination that does not take more makes the pump stop reading, so the children block in write(2);
// nothing else of the program does: [Pump.Write] never blocks, [Stream.Drain] and [Pump.Run] obey their contexts. A
// destination that fails (reader gone, disk full) blocks nobody: lines are discarded and counted, and it is tried
// again each second. Two pumps must not share one destination (compare with os.SameFile; use one pump for both
// streams then), because a large write to a pipe may be torn there.
//
// The pump writes with plain system calls, so a reader that went away is an error (EPIPE) and never ends the program
// by SIGPIPE. That does not hold for writes through os.Stdout and os.Stderr: a program that also uses these should
// call signal.Notify for SIGPIPE, not signal.Ignore, which its children would inherit.
//
// Memory: one partial line for each stream, at most MaxLineBytes, so N children that each hold back a line without end
// cost at most N × MaxLineBytes.
//
// # Formats
//
// [Plain] passes bytes through. Only a newline is added: after an unterminated last line, and where a line longer than
// MaxLineBytes, which is passed on in pieces as it comes, is interrupted by the line of another child.
//
// [Wrap] (the default) and [Auto] write one logfmt record for each line:
//
//	time=2026-01-02T15:04:05.678Z level=info name=web pid=42 out=stdout msg="as written" label=value field=value…
//
// time is when the pump read the line, in UTC. level is one of debug, info, warn, error, fatal; without a better
// knowledge it is info, on stderr too, since most programs write all of their log there. Auto looks for the severity
// of a text line: a klog header, a "<3>" prefix, an upper case, bracketed or colon-terminated level word among the
// first words, or level=word anywhere.
//
// A child's line that is structured keeps its level, its message and all its other fields:
//
//   - JSON: the line is one object with at least one member. Strings are decoded, numbers and literals are kept as they
//     are written, arrays and objects are kept as JSON text. A lone surrogate escape stays as it is written.
//   - logfmt: every word of the line is key=value or key="value", and there is a message or a level that is known
//     (so "player level=5 reached the boss" is text).
//
// The message is the first of msg, message; the level the first known value among level, lvl, severity, levelname,
// log.level. A level whose normal form says less than the original (trace, notice, critical, …) also stays as a field.
// A field whose key is one of ours (time, level, name, pid, out, msg, partial, dropped) or a label gets the prefix
// "child_", so the child's own time is child_time. Duplicate keys stay duplicate. Everything else is text, whole in msg.
//
// Values are quoted where needed and msg always is. Escapes are those of JSON, and \xNN for a byte that is not UTF-8,
// so any decoder of logfmt reads them and strconv.Unquote gives back each byte. In a key, bytes that logfmt cannot hold
// (space, =, ", control, not UTF-8) and % are written %XX; a lone % is the empty key.
//
// A line longer than MaxLineBytes is cut between two runes into text records with partial=first, partial=middle …
// partial=last.
package output
