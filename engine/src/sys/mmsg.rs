//! Many datagrams per system call: `sendmmsg`, `recvmmsg` and the control messages beside them.
//!
//! ```text
//!   messages  [ m0 | m1 | m2 ]            what the kernel walks
//!   parts     [ h p | h p h p h p | p ]   m0 is one datagram, m1 three cut by UDP_SEGMENT, ...
//!   controls  [ - | segment | tos ]       beside each message, empty where nothing is special
//! ```
//! The arrays are kept between calls, the pointers in them are not: they are set in the call that
//! uses them, from borrows that the builder's lifetime keeps alive.
#![allow(unsafe_code, reason = "sendmmsg and recvmmsg")]

use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, c_uint};
use ringbuf::Frame;

/// Datagrams taken by one receive call at most.
pub(crate) const RECEIVE_MAX: usize = 64;

/// One control message with room for any value used here; its size is `CMSG_SPACE(1..=8)`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    data: [u8; 8],
}

const CONTROL_EMPTY: Control = Control {
    // SAFETY: `cmsghdr` is plain old data for which all zeroes is a valid value. Not every C library's has the same fields.
    header: unsafe { std::mem::zeroed() },
    data: [0; 8],
};

impl Control {
    fn new(level: c_int, kind: c_int, value: &[u8]) -> Self {
        let mut control = CONTROL_EMPTY;
        control.header.cmsg_len = (size_of::<libc::cmsghdr>() + value.len()) as _;
        control.header.cmsg_level = level;
        control.header.cmsg_type = kind;
        control.data[..value.len()].copy_from_slice(value);
        control
    }
}

/// A socket address in the kernel's own form, built once per peer.
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl std::fmt::Debug for RawAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawAddress")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        let address = socket2::SockAddr::from(address);
        let length = address.len();
        // SAFETY: `sockaddr_in6` is plain old data for which all zeroes is a valid value.
        let mut storage: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let room = size_of::<libc::sockaddr_in6>().min(length as usize);
        // SAFETY: both sides are live, do not overlap, and hold at least `room` bytes: socket2
        // stores internet addresses in the first `length` bytes of its own storage.
        unsafe {
            ptr::copy_nonoverlapping(
                address.as_ptr().cast::<u8>(),
                (&raw mut storage).cast(),
                room,
            );
        }
        Self { storage, length }
    }
}

/// Arrays for one `sendmmsg`, kept between calls so that nothing is allocated per batch.
pub(crate) struct SendArrays {
    messages: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    controls: Vec<[Control; 2]>,
    spans: Vec<Span>,
}

// SAFETY: the pointers in the arrays are used only through `Sending`, which sets them from live
// borrows; between uses they are stale numbers that nobody follows.
unsafe impl Send for SendArrays {}

/// Where a message's pieces lie in the arrays.
#[derive(Clone, Copy)]
struct Span {
    first_part: u32,
    parts: u32,
    controls: u32,
}

impl std::fmt::Debug for SendArrays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendArrays")
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

impl SendArrays {
    /// Arrays with room for so many messages and twice as many parts, so that they need not grow.
    pub(crate) fn with_room(messages: usize) -> Self {
        Self {
            messages: Vec::with_capacity(messages),
            parts: Vec::with_capacity(2 * messages),
            controls: Vec::with_capacity(messages),
            spans: Vec::with_capacity(messages),
        }
    }

    /// Begins an empty batch whose bytes live at least as long as `'p`.
    pub(crate) fn start<'s, 'p>(&'s mut self) -> Sending<'s, 'p> {
        self.messages.clear();
        self.parts.clear();
        self.controls.clear();
        self.spans.clear();
        Sending {
            arrays: self,
            bytes: PhantomData,
        }
    }
}

/// A batch being built; the borrow of every byte in it lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct Sending<'s, 'p> {
    arrays: &'s mut SendArrays,
    bytes: PhantomData<&'p [u8]>,
}

impl<'p> Sending<'_, 'p> {
    /// Opens a message. `segment` cuts it into datagrams of that size (0: one datagram).
    pub(crate) fn message(&mut self, to: Option<&'p RawAddress>, segment: u16, tos: u8) {
        // SAFETY: `msghdr` is plain old data for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut v6 = false;
        if let Some(address) = to {
            header.msg_name = (&raw const address.storage).cast_mut().cast();
            header.msg_namelen = address.length;
            v6 = address.length as usize == size_of::<libc::sockaddr_in6>();
        }
        let mut controls = [CONTROL_EMPTY; 2];
        let mut used = 0;
        if segment != 0 {
            controls[used] = Control::new(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
            used += 1;
        }
        if tos != 0 {
            let (level, kind) = tos_control(v6);
            controls[used] = Control::new(level, kind, &c_int::from(tos).to_ne_bytes());
            used += 1;
        }
        let first_part = self.arrays.parts.len() as u32;
        self.arrays.messages.push(libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
        self.arrays.controls.push(controls);
        self.arrays.spans.push(Span {
            first_part,
            parts: 0,
            controls: used as u32,
        });
    }

    /// Appends bytes to the message opened last.
    pub(crate) fn part(&mut self, bytes: &'p [u8]) {
        let base = bytes.as_ptr().cast_mut().cast();
        self.arrays.parts.push(libc::iovec {
            iov_base: base,
            iov_len: bytes.len(),
        });
        if let Some(span) = self.arrays.spans.last_mut() {
            span.parts += 1;
        }
    }

    /// How many messages were opened.
    pub(crate) fn len(&self) -> usize {
        self.arrays.messages.len()
    }

    /// Sends from message `first` on; returns how many messages the kernel took, at least one.
    pub(crate) fn send(&mut self, fd: RawFd, first: usize) -> io::Result<usize> {
        self.set_pointers(first);
        let messages = &mut self.arrays.messages[first..];
        let count = messages.len() as c_uint;
        let flags = libc::MSG_NOSIGNAL as _;
        // SAFETY: `messages` is `count` live headers; `set_pointers` made each point into arrays
        // that are not touched before the call returns, and to bytes borrowed for 'p.
        let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn set_pointers(&mut self, first: usize) {
        let SendArrays {
            messages,
            parts,
            controls,
            spans,
        } = &mut *self.arrays;
        for (index, message) in messages.iter_mut().enumerate().skip(first) {
            let span = spans[index];
            let header = &mut message.msg_hdr;
            header.msg_iov = parts[span.first_part as usize..].as_mut_ptr();
            header.msg_iovlen = span.parts as _;
            if span.controls > 0 {
                header.msg_control = controls[index].as_mut_ptr().cast();
                header.msg_controllen = (span.controls as usize * size_of::<Control>()) as _;
            }
        }
    }
}

fn tos_control(v6: bool) -> (c_int, c_int) {
    if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
    } else {
        (libc::IPPROTO_IP, libc::IP_TOS)
    }
}

/// What the kernel said about one received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// `None` for a source that is no internet address.
    pub(crate) source: Option<IpAddr>,
    /// Where in its slot it lies.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Size of each datagram in the message, the last may be shorter; `len` where it is just one.
    pub(crate) segment: usize,
    /// The outer header's ECN bits.
    pub(crate) ecn: u8,
    /// The kernel had more bytes than the frame could take.
    pub(crate) truncated: bool,
}

impl Received {
    /// How many datagrams the message holds; an empty message is one empty datagram.
    pub(crate) fn packets(&self) -> u64 {
        self.len.div_ceil(self.segment.max(1)).max(1) as u64
    }

    /// Offset and length of each datagram.
    pub(crate) fn datagrams(self) -> impl Iterator<Item = (usize, usize)> {
        let segment = self.segment.max(1);
        (0..self.packets() as usize).map(move |index| {
            let start = index * segment;
            (start, segment.min(self.len - start))
        })
    }
}

/// Frames and arrays for `recvmmsg`; message `i` always lands in frame `i`.
pub(crate) struct RecvBatch<'a> {
    frames: Vec<Frame<'a>>,
    messages: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_in6>,
    controls: Vec<[Control; 4]>,
}

impl std::fmt::Debug for RecvBatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBatch")
            .field("frames", &self.frames.len())
            .finish_non_exhaustive()
    }
}

impl<'a> RecvBatch<'a> {
    /// Receives into `frames`, one message each.
    pub(crate) fn new(frames: Vec<Frame<'a>>) -> Self {
        let count = frames.len();
        // SAFETY: all three are plain old data for which all zeroes is a valid value.
        let (message, name): (libc::mmsghdr, libc::sockaddr_in6) = unsafe { std::mem::zeroed() };
        let part = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            frames,
            messages: vec![message; count],
            parts: vec![part; count],
            names: vec![name; count],
            controls: vec![[CONTROL_EMPTY; 4]; count],
        }
    }

    /// How many messages one receive takes at most.
    pub(crate) fn capacity(&self) -> usize {
        self.frames.len()
    }

    /// The frames, in message order, to be changed in place.
    pub(crate) fn frames_mut(&mut self) -> &mut [Frame<'a>] {
        &mut self.frames
    }

    /// Receives what is there, up to the number of frames.
    pub(crate) fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        self.set_pointers();
        let count = self.messages.len() as c_uint;
        let flags = libc::MSG_DONTWAIT as _;
        // SAFETY: `messages` is `count` live headers whose pointers `set_pointers` aimed at arrays
        // and frames owned by `self`, which is borrowed exclusively for the whole call.
        let got = unsafe {
            libc::recvmmsg(
                fd,
                self.messages.as_mut_ptr(),
                count,
                flags,
                ptr::null_mut(),
            )
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// What message `index` of the last receive was.
    pub(crate) fn received(&self, index: usize) -> Received {
        let message = &self.messages[index];
        let len = message.msg_len as usize;
        let mut received = Received {
            source: ip_of(&self.names[index]),
            start: self.frames[index].start(),
            len,
            segment: len,
            ecn: 0,
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        };
        #[allow(
            clippy::unnecessary_cast,
            reason = "not every C library counts in usize"
        )]
        let bytes = message.msg_hdr.msg_controllen as usize;
        for control in &self.controls[index][..bytes.div_ceil(size_of::<Control>()).min(4)] {
            read_control(control, &mut received);
        }
        received
    }

    /// Who sent message `index` of the last receive.
    pub(crate) fn sender(&self, index: usize) -> Option<SocketAddr> {
        let name = &self.names[index];
        // Both families keep the port in the same place.
        let port = u16::from_be(name.sin6_port);
        ip_of(name).map(|ip| SocketAddr::new(ip, port))
    }

    fn set_pointers(&mut self) {
        for (index, message) in self.messages.iter_mut().enumerate() {
            let frame = &mut self.frames[index];
            frame.reset();
            let start = frame.start();
            let room = &mut frame.whole_mut()[start..];
            self.parts[index] = libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            };
            let header = &mut message.msg_hdr;
            header.msg_iov = &raw mut self.parts[index];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in6>() as _;
            header.msg_control = self.controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<[Control; 4]>() as _;
            header.msg_flags = 0;
        }
    }
}

fn read_control(control: &Control, received: &mut Received) {
    let header = &control.header;
    match (header.cmsg_level, header.cmsg_type) {
        (libc::SOL_UDP, libc::UDP_GRO) => {
            let [a, b, c, d, ..] = control.data;
            let size = c_int::from_ne_bytes([a, b, c, d]);
            // A size the kernel should not give leaves the message one datagram.
            if size > 0 {
                received.segment = (size as usize).min(received.len);
            }
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => received.ecn = control.data[0] & 3,
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            let [a, b, c, d, ..] = control.data;
            received.ecn = (c_int::from_ne_bytes([a, b, c, d]) & 3) as u8;
        }
        _ => {}
    }
}

fn ip_of(name: &libc::sockaddr_in6) -> Option<IpAddr> {
    match c_int::from(name.sin6_family) {
        libc::AF_INET => {
            let v4: *const libc::sockaddr_in = (&raw const *name).cast();
            // SAFETY: the family says the kernel wrote a `sockaddr_in`, which is smaller than and
            // aligned no stricter than the `sockaddr_in6` it lies in.
            let address = unsafe { (*v4).sin_addr.s_addr };
            Some(IpAddr::V4(Ipv4Addr::from(address.to_ne_bytes())))
        }
        libc::AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(name.sin6_addr.s6_addr))),
        _ => None,
    }
}
