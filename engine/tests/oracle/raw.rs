//! The few system calls the standard library has no words for.
#![allow(unsafe_code, reason = "ioctl, unshare and packet sockets")]

use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO: libc::c_ulong = 0x02 | 0x04 | 0x08;
const TUN_F_USO: libc::c_ulong = 0x20 | 0x40;

fn checked(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Gives the calling thread an empty network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: takes no pointers and changes the calling thread only.
    checked(i64::from(unsafe { libc::unshare(libc::CLONE_NEWNET) })).map(|_| ())
}

/// Turns an open /dev/net/tun into the device `name`.
pub(crate) fn tun_set_interface(file: &File, name: &str, flags: i32) -> io::Result<()> {
    // SAFETY: an ifreq is plain data for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until the call returns; the
    // descriptor is open.
    checked(i64::from(unsafe {
        libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request)
    }))
    .map(|_| ())
}

/// Says that super-packets of TCP and UDP may be read from the device.
pub(crate) fn tun_accept_super_packets(file: &File) -> io::Result<()> {
    let flags = TUN_F_CSUM | TUN_F_TSO | TUN_F_USO;
    // SAFETY: TUNSETOFFLOAD takes its flags by value; the descriptor is open.
    checked(i64::from(unsafe {
        libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, flags)
    }))
    .map(|_| ())
}

/// Waits until `file` has something to read; false if nothing came.
pub(crate) fn readable(file: &File, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, alive during the call, and the count says so.
    unsafe { libc::poll(&raw mut poll, 1, timeout_ms) > 0 }
}

/// Sends Ethernet frames out of one device.
#[derive(Debug)]
pub(crate) struct FrameSender(OwnedFd);

impl FrameSender {
    /// Opens a packet socket on the device with this index.
    pub(crate) fn open(index: i32) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = checked(i64::from(unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
        }))? as i32;
        // SAFETY: the descriptor was just returned and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a sockaddr_ll is plain data for which zeroes are a valid value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is a sockaddr_ll of `len` bytes and lives during the call; the socket
        // is open.
        checked(i64::from(unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len)
        }))?;
        Ok(Self(fd))
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are those of a live slice; the socket is open.
        checked(
            unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) } as i64,
        )
        .map(|_| ())
    }
}
