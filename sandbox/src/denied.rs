//! Calls that threads were denied, counted where they happen: none of ours makes one, so each is a bug or a break-in.
//!
//! The kernel tells the thread itself, by a signal, that a call was refused. The handler notes that and gives the call
//! the answer it would have had without one. Who takes a worker over could block the signal; the next such call then
//! ends the process, which nobody overlooks either.
#![allow(
    unsafe_code,
    reason = "a signal handler, and the registers it answers in"
)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The signal was sent because a filter refused a call, and not by somebody.
const BY_A_FILTER: libc::c_int = 1;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicI64 = AtomicI64::new(0);
/// The allocator of the C library asks a file, once in a process, whether memory can be given back.
static ALLOCATOR_ASKED: AtomicBool = AtomicBool::new(false);

/// How many calls were denied so far, and the number of the last one.
pub fn so_far() -> (u64, i64) {
    (COUNT.load(Ordering::Relaxed), LAST.load(Ordering::Relaxed))
}

/// Has denied calls counted from now on.
pub(crate) fn listen() -> io::Result<()> {
    // SAFETY: `sigaction` is plain old data for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(_, _, _) = note;
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the action is a live structure that is only read, with a handler that calls nothing and touches atomic
    // numbers and what the kernel hands it; the old action is not asked for.
    let set = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn note(_: libc::c_int, told: *mut libc::siginfo_t, thread: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler that asked for it live information about the signal.
    let told = unsafe { &*told };
    if told.si_code != BY_A_FILTER {
        return;
    }
    // SAFETY: it also hands over the registers of the thread, which are nobody else's while the handler runs.
    let thread = unsafe { &mut *thread.cast::<libc::ucontext_t>() };
    let (number, answer) = registers(&mut thread.uc_mcontext);
    let first_of_its_kind = || !ALLOCATOR_ASKED.swap(true, Ordering::Relaxed);
    if number != libc::SYS_openat || !first_of_its_kind() {
        LAST.store(number, Ordering::Relaxed);
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
    *answer = (-i64::from(libc::EPERM)) as _;
}

/// The number of the call, and where its answer goes.
#[cfg(target_arch = "x86_64")]
fn registers(context: &mut libc::mcontext_t) -> (i64, &mut i64) {
    let accumulator = &mut context.gregs[libc::REG_RAX as usize];
    (*accumulator, accumulator)
}

/// The number of the call, and where its answer goes.
#[cfg(target_arch = "aarch64")]
fn registers(context: &mut libc::mcontext_t) -> (i64, &mut u64) {
    (context.regs[8] as i64, &mut context.regs[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{Call, Refusal, allow_only};
    use std::thread;

    #[test]
    fn a_denied_call_is_counted_and_fails_like_any_other() {
        let before = so_far().0;
        let tried = || {
            let calls = [libc::SYS_futex, libc::SYS_munmap, libc::SYS_madvise];
            let ending = [
                libc::SYS_sigaltstack,
                libc::SYS_rt_sigprocmask,
                libc::SYS_exit,
            ];
            let memory = [
                libc::SYS_mmap,
                libc::SYS_mprotect,
                libc::SYS_brk,
                libc::SYS_rt_sigreturn,
            ];
            let calls = [&calls[..], &ending, &memory].concat();
            let calls = calls.into_iter().map(Call::any).collect();
            allow_only(calls, Refusal::Error).unwrap();
            [0, 1].map(|_| {
                std::fs::File::open("/dev/null")
                    .map_err(|error| error.kind())
                    .err()
            })
        };
        let denied = Some(io::ErrorKind::PermissionDenied);
        assert_eq!(thread::spawn(tried).join().unwrap(), [denied; 2]);
        let (count, last) = so_far();
        assert!(count > before, "{before} and {count}");
        assert_ne!(last, 0);
    }
}
