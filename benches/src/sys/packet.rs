//! Raw Ethernet frames on one interface, for tests that compare packets byte by byte.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, set_int_option};

/// Opens a packet socket that sees every frame of `interface` in this thread's namespace.
pub(crate) fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let protocol = libc::c_int::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: socket(2) takes three numbers.
    let raw = check(
        unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                protocol,
            )
        }
        .into(),
    )?;
    // SAFETY: the kernel just returned this descriptor, so it is open and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    bind_to_interface(&socket, interface)?;
    Ok(socket)
}

fn bind_to_interface(socket: &OwnedFd, interface: &str) -> io::Result<()> {
    let name = CString::new(interface)?;
    // SAFETY: if_nametoindex(3) reads a string that ends in zero, which CString guarantees.
    let index = check(unsafe { libc::if_nametoindex(name.as_ptr()) }.into())?;
    // SAFETY: sockaddr_ll is a C structure of integers, for which all zero is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: bind(2) reads `length` bytes of the address, which is live and of that size.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }.into())
        .map(drop)
}

/// Puts a virtio network header in front of every frame, sent and received.
pub(crate) fn set_vnet_header(socket: BorrowedFd<'_>) -> io::Result<()> {
    const PACKET_VNET_HDR: i32 = 15;
    set_int_option(socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)
}

/// Sends one frame.
pub(crate) fn send_framed(socket: BorrowedFd<'_>, frame: &[u8]) -> io::Result<()> {
    // SAFETY: send(2) reads `frame.len()` bytes of the slice.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    check(sent as i64).map(drop)
}

/// Receives one frame that another host or interface sent, not one this interface sent itself.
pub(crate) fn receive_framed(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    // SAFETY: sockaddr_ll is a C structure of integers, for which all zero is a valid value.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    let (fd, into, size) = (socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: recvfrom(2) writes at most `size` bytes to the buffer and at most `length` bytes to
    // the address, both live and borrowed mutably here.
    let received = unsafe {
        libc::recvfrom(
            fd,
            into,
            size,
            libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &raw mut length,
        )
    };
    let received = check(received as i64)?;
    Ok((from.sll_pkttype != libc::PACKET_OUTGOING).then_some(received))
}
