//! Thin, safe calls into the kernel; the only unsafe code of the engine lives below this module.
//!
//! Nothing here knows what a packet means. Every call that hands memory to the kernel takes it as
//! a borrow that outlives the call, so no pointer survives in here except the arrays a single
//! `sendmmsg` or `recvmmsg` reads, and those are rebuilt each time.

pub(crate) mod bpf;
pub(crate) mod cpu;
pub(crate) mod gather;
pub(crate) mod heap;
pub(crate) mod mmsg;
pub(crate) mod poll;
pub(crate) mod signals;
pub(crate) mod tun;
pub(crate) mod udp;
pub(crate) mod uring;
pub(crate) mod wake;
pub(crate) mod xsk;
