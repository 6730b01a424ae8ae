//! The only unsafe code of this package: thin calls into the kernel that std does not offer.
#![allow(unsafe_code, reason = "system calls that std and socket2 do not wrap")]

mod mmsg;
mod packet;
mod process;
mod seccomp;
mod tun;

pub(crate) use mmsg::MessageBatch;
pub(crate) use packet::{packet_socket, receive_framed, send_framed, set_vnet_header};
pub(crate) use process::{
    clock_ticks_per_second, enter_namespace, fine_timers, keep_to, leave_for_new_namespace,
    send_signal, start_inside,
};
pub(crate) use seccomp::{Question, Questions, start_filtered};
pub(crate) use tun::open_tun;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Turns the kernel's -1 into the error it left in errno.
fn check(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sets an `int` socket option.
pub(crate) fn set_int_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads `length` bytes from `value`, which is a live i32 of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    };
    check(result.into()).map(drop)
}

/// Gives a socket buffers past the system's limit, so that the traffic, not the lab, is measured.
pub(crate) fn force_buffers(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_int_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)?;
    set_int_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

/// Waits until one of `sockets` is readable or the time is over; says which ones are.
pub(crate) fn wait_readable(polls: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<usize> {
    let count = polls.len() as libc::nfds_t;
    // SAFETY: poll(2) reads and writes `count` pollfd structures, exactly the slice's length.
    let result = unsafe { libc::poll(polls.as_mut_ptr(), count, timeout_ms) };
    check(result.into())
}

/// A poll entry that asks for readability of a descriptor that outlives it.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Receives one datagram if there is one.
pub(crate) fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (fd, into) = (socket.as_raw_fd(), buffer.as_mut_ptr().cast());
    // SAFETY: recv(2) writes at most `buffer.len()` bytes into the mutably borrowed slice.
    let received = unsafe { libc::recv(fd, into, buffer.len(), libc::MSG_DONTWAIT) };
    check(received as i64)
}
