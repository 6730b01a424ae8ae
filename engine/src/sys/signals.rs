//! Signals stay away from workers: what a handler does for the daemon, a confined worker may not do.
#![allow(unsafe_code, reason = "pthread_sigmask and sets of signals")]

use std::io;

/// Those a thread earns itself; they need to be seen where they happen. All end the process but the last, which tells of
/// a system call that was denied.
const OWN_FAULT: [libc::c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
];

/// Leaves all signals that others send to the other threads.
pub(crate) fn leave_to_others() -> io::Result<()> {
    // SAFETY: `sigset_t` is plain old data for which all zeroes is a valid value.
    let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `blocked` is a live set, exclusively borrowed for the call.
    unsafe { libc::sigfillset(&raw mut blocked) };
    for signal in OWN_FAULT {
        // SAFETY: as above; the number is a valid signal.
        unsafe { libc::sigdelset(&raw mut blocked, signal) };
    }
    let none = std::ptr::null_mut();
    // SAFETY: `blocked` is a live set that is only read, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, none) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
