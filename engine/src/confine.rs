//! A worker that has its device, its sockets and its memory needs no privilege, no file and few
//! system calls; what it does not need it gives up here, for good, before the first packet.
//!
//! Whoever takes a worker over can read and write its own device, send and receive by its own
//! sockets, and get memory that is never executed. Descriptors of the rest of the process it knows
//! but cannot use. See `docs/adr/0012-sandbox.md`.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;

use crate::io::WaitsIn;
use sandbox::calls::{self, Call, Refusal};
use sandbox::capabilities::{self, Capabilities};
use sandbox::files::{self, Enforced, Reach};

/// Standard error, for log lines.
const LOG: u32 = 2;
/// IORING_UNREGISTER_FILES and IORING_REGISTER_SYNC_CANCEL, with which a ring ends.
const RING_ENDS: [RangeInclusive<u32>; 2] = [3..=3, 24..=24];
/// IP_MTU and IPV6_MTU.
const PATH_MTU: [RangeInclusive<u32>; 2] = [14..=14, 24..=24];
/// What stands for no file where memory is mapped.
const NO_FILE: u32 = u32::MAX;

/// The descriptors a worker works with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    pub(crate) tun: RawFd,
    pub(crate) wake: RawFd,
    pub(crate) sockets: Vec<RawFd>,
    /// Those of them that hear one sender each.
    pub(crate) favourites: Vec<RawFd>,
    /// Sockets that only ask the kernel about paths.
    pub(crate) scouts: Vec<RawFd>,
    /// Sockets that frames are put into; nothing is asked of them.
    pub(crate) shortcuts: Vec<RawFd>,
}

/// Leaves the calling thread what a worker needs; each error says what it was left besides.
pub(crate) fn confine(own: &Own, waits_in: WaitsIn, refusal: Refusal) -> Vec<String> {
    let nowhere = Reach {
        connect: Some(Vec::new()),
        apart: true,
        ..Reach::default()
    };
    let mut left = Vec::new();
    if let Err(error) = capabilities::keep(Capabilities::empty()) {
        left.push(format!("its capabilities ({error})"));
    }
    match files::limit(&nowhere) {
        Ok(Enforced::Fully | Enforced::Partly) => {}
        Ok(Enforced::Not) => left.push("files (no Landlock in this kernel)".to_owned()),
        Err(error) => left.push(format!("files ({error})")),
    }
    // Last: it forbids the calls that put up the other walls.
    if let Err(error) = allowed(own, waits_in).and_then(|list| limit_calls(list, refusal)) {
        left.push(format!("all system calls ({error})"));
    }
    left
}

fn limit_calls(mut list: Vec<Call>, refusal: Refusal) -> io::Result<()> {
    if refusal == Refusal::End {
        // The allocator asks a file whether memory can be given back, and does without an answer.
        calls::forbid(&[libc::SYS_openat])?;
        list.push(Call::any(libc::SYS_openat));
    }
    calls::allow_only(list, refusal)
}

/// The system calls a worker makes, with the descriptors it makes them on.
fn allowed(own: &Own, waits_in: WaitsIn) -> io::Result<Vec<Call>> {
    let on = |call, fds: &[RawFd]| Call::any(call).within(0, &ranges(fds));
    let (tun, sockets) = (&[own.tun], &own.sockets);
    let mapped = |call| Call::any(call).without(2, libc::PROT_EXEC as u32);
    let mut all = vec![
        on(libc::SYS_read, &[own.tun, own.wake])?,
        on(libc::SYS_writev, tun)?,
        on(libc::SYS_recvmmsg, sockets)?,
        on(libc::SYS_sendmmsg, sockets)?,
        on(
            libc::SYS_connect,
            &[&own.scouts[..], &own.favourites].concat(),
        )?,
        on(libc::SYS_getsockopt, &own.scouts)?.within(2, &PATH_MTU)?,
        on(libc::SYS_close, &own.all(waits_in))?,
        Call::any(libc::SYS_write).within(0, &[LOG..=LOG])?,
        mapped(libc::SYS_mmap)?.within(4, &[NO_FILE..=NO_FILE])?,
        mapped(libc::SYS_mprotect)?,
    ];
    all.extend(EVERYDAY.map(Call::any));
    match waits_in {
        WaitsIn::Ring(ring) => all.extend([
            on(libc::SYS_io_uring_enter, &[ring])?,
            on(libc::SYS_io_uring_register, &[ring])?.within(1, &RING_ENDS)?,
        ]),
        WaitsIn::Set(set) => all.extend([Call::any(POLL), on(libc::SYS_epoll_ctl, &[set])?]),
    }
    if cfg!(debug_assertions) {
        // The standard library then makes sure that what it closes is open.
        let asks = [libc::F_GETFD as u32..=libc::F_GETFD as u32];
        all.push(Call::any(libc::SYS_fcntl).within(1, &asks)?);
    }
    Ok(all)
}

/// How poll(3) is made.
#[cfg(target_arch = "x86_64")]
const POLL: libc::c_long = libc::SYS_poll;
#[cfg(not(target_arch = "x86_64"))]
const POLL: libc::c_long = libc::SYS_ppoll;

/// Memory, time, other threads of this process and the end of a thread: calls that reach nothing outside.
const EVERYDAY: [libc::c_long; 13] = [
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getpid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
];

impl Own {
    fn all(&self, waits_in: WaitsIn) -> Vec<RawFd> {
        let single = [self.tun, self.wake, waits_in.raw()].into_iter();
        let sockets = [&self.sockets, &self.scouts, &self.shortcuts];
        let sockets = sockets.into_iter().flatten().copied();
        single.chain(sockets).collect()
    }
}

/// Descriptors as ranges: they are mostly opened one after the other, and each range costs every
/// call a comparison.
fn ranges(fds: &[RawFd]) -> Vec<RangeInclusive<u32>> {
    let mut numbers: Vec<u32> = fds.iter().map(|&fd| fd as u32).collect();
    numbers.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if *last.end() + 1 >= number => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_descriptors_are_one_range() {
        assert_eq!(ranges(&[7, 5, 6, 9]), [5..=7, 9..=9]);
        assert!(ranges(&[]).is_empty());
    }

    #[test]
    fn a_worker_makes_at_most_25_system_calls() {
        for waits_in in [WaitsIn::Ring(11), WaitsIn::Set(11)] {
            let own = Own {
                tun: 5,
                wake: 6,
                sockets: vec![7, 8, 9],
                favourites: vec![9],
                scouts: vec![10],
                shortcuts: vec![12],
            };
            let count =
                allowed(&own, waits_in).unwrap().len() - usize::from(cfg!(debug_assertions));
            assert!(count <= 25, "{count}");
        }
    }
}
