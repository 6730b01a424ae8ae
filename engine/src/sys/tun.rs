//! Opening a TUN device and its queues.
//!
//! The `tun-tap` crate can open one plain queue and nothing more (no multi-queue, no virtio
//! header), so it serves the single-queue opener alone and the rest is three `ioctl`s here.
//! See `docs/adr/0003-tun-opener.md`.
#![allow(unsafe_code, reason = "ioctl, read and writev on the TUN descriptor")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_short, c_uint};

use super::gather::Gathered;

/// Checksum of a half-finished packet may be handed over in either direction.
pub(crate) const TUN_F_CSUM: c_uint = 0x01;
/// TCP super-packets, both families, with ECN.
pub(crate) const TUN_F_TSO: c_uint = 0x02 | 0x04 | 0x08;
/// UDP super-packets, both families (Linux 6.2); accepted only together with `TUN_F_CSUM`.
pub(crate) const TUN_F_USO: c_uint = 0x20 | 0x40;

/// How a queue is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFlags {
    pub(crate) multi_queue: bool,
    pub(crate) vnet_header: bool,
}

/// One queue of a TUN device; the device goes away with its last queue.
#[derive(Debug)]
pub(crate) struct TunQueue {
    file: File,
}

impl TunQueue {
    /// Opens a queue of the device `name` (`%d` lets the kernel choose a number) and says which
    /// device it became.
    pub(crate) fn open(name: &str, flags: QueueFlags) -> io::Result<(Self, String)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut request = request_for(name, flags)?;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is, and keeps no pointer.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((Self { file }, name_in(&request)))
    }

    /// Opens the only queue of a plain device: no multi-queue, no virtio header, no offload.
    pub(crate) fn open_single(name: &str) -> io::Result<(Self, String)> {
        let device = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tun)?;
        device.set_non_blocking()?;
        let name = device.name().to_owned();
        let raw = device.into_raw_fd();
        // SAFETY: `into_raw_fd` gave up ownership of an open descriptor; it is owned here alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok((Self { file: fd.into() }, name))
    }

    /// Goes on with a queue that somebody else opened; says which device it belongs to, and whether that has a virtio
    /// header.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<(Self, String, bool)> {
        // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
        let mut found: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF writes one `ifreq`, which `found` is, and keeps no pointer.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut found) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: TUNGETIFF has set the flags.
        let flags = c_int::from(unsafe { found.ifr_ifru.ifru_flags });
        let vnet_header = flags & libc::IFF_VNET_HDR != 0;
        Ok((Self { file: fd.into() }, name_in(&found), vnet_header))
    }

    /// Another descriptor of the same queue.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }

    /// Announces which offloads this side can take; an error leaves the earlier setting.
    pub(crate) fn set_offloads(&self, bits: c_uint) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        let done = unsafe {
            libc::ioctl(
                self.raw(),
                libc::TUNSETOFFLOAD as _,
                libc::c_ulong::from(bits),
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The descriptor, for polling and for io_uring.
    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Reads one packet, virtio header included where there is one.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer is a live exclusive borrow of exactly `into.len()` bytes.
        let read = unsafe { libc::read(self.raw(), into.as_mut_ptr().cast(), into.len()) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    /// Writes gathered packets, one call each; returns how many bytes went.
    pub(crate) fn write(&self, packets: &Gathered<'_, '_>) -> io::Result<usize> {
        packets.packets().map(|parts| self.write_parts(parts)).sum()
    }

    fn write_parts(&self, parts: &[libc::iovec]) -> io::Result<usize> {
        // SAFETY: `parts` comes from a `Gathered`, which borrows every byte it points to, and
        // writev only reads them.
        let wrote = unsafe { libc::writev(self.raw(), parts.as_ptr(), parts.len() as c_int) };
        usize::try_from(wrote).map_err(|_| io::Error::last_os_error())
    }
}

fn request_for(name: &str, flags: QueueFlags) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.is_empty() || name.len() > room {
        let message = format!("TUN name {name:?} must have 1 to {room} characters");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let mut bits = libc::IFF_TUN | libc::IFF_NO_PI;
    if flags.multi_queue {
        bits |= libc::IFF_MULTI_QUEUE;
    }
    if flags.vnet_header {
        bits |= libc::IFF_VNET_HDR;
    }
    request.ifr_ifru.ifru_flags = bits as c_short;
    Ok(request)
}

fn name_in(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|&c| c as u8);
    let name: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}
