// Package command starts processes, waits for them and cleans up after them.
// It is the only package of the wrapper that forks or calls wait.
//
// # One wait loop
//
// [Reaper.Run] is the only caller of wait: on SIGCHLD it collects whatever is
// dead until nothing is, whether we started it or, as PID 1 or child subreaper,
// inherited it. A table says whose exit it was. Signals are sent under the lock of
// that table, so none reaches a pid that was collected and given to somebody else.
// A child costs neither a goroutine nor a thread. Start works before Run does;
// exits are seen once Run runs.
//
// # Forks
//
// Forks are made by two threads of their own, and nothing else waits for one.
// While one is under way the loop keeps the status of each process without an
// owner: it may be the new child's, which then finds it.
//
// These threads have a table of descriptors of their own, into which only what the
// next child is to get is passed. The kernel copies the table at each fork and goes
// through it at each exec: with two pipes for each of 1,000 children that would
// take most of the time of a start. They are kept until Run returns, because a
// parent-death signal is sent when the thread ends that forked, not the process.
//
// An exec hangs where a file system does not answer (NFS, FUSE). The Go runtime
// cannot stop a thread that waits for one, so that from the next garbage
// collection on the whole program would hang. Therefore Start first opens, without
// any lock, all that exec will open: who hangs there, hangs alone. And programs,
// interpreters and directories on remote file systems are left to a shim, see
// below, whose exec is given up after 30 s. If a fork hangs all the same (a local
// disk that stops answering within those microseconds), the next one goes beside
// it, on another thread, after a second.
//
// # What a process leaves behind
//
// [Child.Sweep], after an exit, ends what is left of the process. Every
// descendant of it hangs, by parent ancestry, below an orphan that the kernel
// handed to us. Such a process belongs to the child if, in this order,
//
//   - it is not below a living child of ours (those are never touched),
//   - its process group or session is the child's,
//   - its parent belongs to the child,
//   - its environment at exec (/proc/PID/environ) has the child's cookie, or a
//     descendant's has,
//   - it is in a session that one of the above belongs to.
//
// The cookie is the variable PROCESS_WRAPPER_COOKIE: a list, outermost wrapper
// first, of "run:incarnation:name". It is read only where ancestry and group do
// not decide. A pass over /proc is shared by all who wait for one at that moment,
// and none is made when no orphan came to us since the child was started and its
// group is empty. A process found is signalled through a pidfd, after its start
// time was compared, so a reused pid is never hit.
//
// What cannot be attributed is left alone while others run: an orphan in a
// session of its own whose environment was emptied or overwritten (`env -i`,
// setproctitle) or may not be read (another uid, without CAP_SYS_PTRACE), and
// none of whose descendants can be attributed. [Reaper.KillRest], at the end of
// the pod, ends these too: everything that is below us.
//
// # Attributes
//
// What [syscall.SysProcAttr] can do is done between fork and exec. For the rest
// (umask, nice, OOM score, rlimits, capabilities, no_new_privs) we execute our own
// binary first, as the child, which applies its orders and executes the program:
// main must call [Init] first. The orders come through a pipe, never in argv
// or the environment, where others could read them. They are applied while still
// privileged, in this order: OOM score, nice, umask, rlimits, chroot, directory,
// bounding set, groups, gid, uid, capabilities, no_new_privs, death signal, exec.
package command
