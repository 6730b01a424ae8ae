//! Namespaces, child processes, signals and timers.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::check;

/// Moves the calling thread into a new network namespace.
pub(crate) fn leave_for_new_namespace() -> io::Result<()> {
    // SAFETY: unshare(2) takes a flag word; CLONE_NEWNET concerns the calling thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Moves the calling thread into the network namespace behind `namespace`.
pub(crate) fn enter_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns(2) takes a descriptor and a flag; the borrow keeps the descriptor open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Makes `command` start inside `namespace` and die with the thread that started it.
pub(crate) fn start_inside(command: &mut Command, namespace: File) {
    let prepare = move || {
        enter_namespace(std::os::fd::AsFd::as_fd(&namespace))?;
        die_with_parent()
    };
    // SAFETY: `prepare` runs between fork and exec and so may only make async-signal-safe calls:
    // it makes two plain system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// Asks for SIGKILL when the thread that forked this process ends, so that nothing is left behind.
fn die_with_parent() -> io::Result<()> {
    let signal = libc::SIGKILL as libc::c_ulong;
    // SAFETY: PR_SET_PDEATHSIG takes one signal number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into()).map(drop)
}

/// Lets sleeps of the calling thread end when asked, not up to 50 µs later.
pub(crate) fn fine_timers() {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: PR_SET_TIMERSLACK takes one number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
}

/// Keeps the calling thread on these processors; where none of them exists it may be anywhere.
pub(crate) fn keep_to(processors: Range<usize>) {
    // SAFETY: cpu_set_t is a C structure of integers, for which all zero is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for processor in processors {
        // SAFETY: CPU_SET writes one bit of `set`, and nothing for a number that is too large.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: sched_setaffinity(2) reads `size_of_val(&set)` bytes of a live set; 0 is this thread.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

/// Sends a signal to a child that has not been waited for yet, so its process id is still its own.
pub(crate) fn send_signal(unreaped_child: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes two numbers and touches no memory of this process.
    check(unsafe { libc::kill(unreaped_child as libc::pid_t, signal) }.into()).map(drop)
}

/// The unit of the times in /proc/stat and /proc/PID/stat.
pub(crate) fn clock_ticks_per_second() -> f64 {
    // SAFETY: sysconf(3) takes a number and touches no memory.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    ticks.max(1) as f64
}
