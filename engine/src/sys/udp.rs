//! Underlay sockets: created, sized and told what to report.
#![allow(unsafe_code, reason = "socket options that no crate of ours wraps")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, c_void};
use socket2::{Domain, Protocol, Socket, Type};

/// Wanted socket buffers. TCP through the tunnel retransmits thousands of times per run with
/// 4 MB and hardly ever with 32 MB.
const BUFFER_BYTES: usize = 32 << 20;

const DISCARD_PORT: u16 = 9;

/// Datagrams that are tried on loopback, in bytes, and how long they may take there.
const TRIED_SEGMENT: usize = 100;
const LOOPBACK_PATIENCE: Duration = Duration::from_millis(20);

/// One bound UDP socket of a worker.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    socket: Socket,
    /// Which address family it speaks.
    pub(crate) v6: bool,
}

impl UdpSocket {
    /// Binds `local`, shared with the sockets of the other workers when `shared`.
    pub(crate) fn bind(local: SocketAddr, shared: bool) -> io::Result<Self> {
        let udp = Self::unbound(local)?;
        udp.socket.set_reuse_port(shared)?;
        udp.socket.bind(&local.into())?;
        udp.enlarge_buffers();
        Ok(udp)
    }

    /// A socket of the address's family.
    fn unbound(address: SocketAddr) -> io::Result<Self> {
        let v6 = address.is_ipv6();
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        if v6 {
            socket.set_only_v6(true)?;
        }
        Ok(Self { socket, v6 })
    }

    /// Goes on with a socket that somebody else bound; says where.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<(Self, SocketAddr)> {
        let mut udp = Self {
            socket: Socket::from(fd),
            v6: false,
        };
        let local = udp.local()?;
        udp.v6 = local.is_ipv6();
        Ok((udp, local))
    }

    /// Another socket at the same address and port, that hears nobody until it is told [whom](Self::hear_only).
    ///
    /// It is bound to no address at first, so that what is meant for the first one still gets there,
    /// and gets the address by being told to hear nobody. Only for the moment of binding could
    /// anybody else bind the port, too.
    pub(crate) fn beside(&self) -> io::Result<Self> {
        let local = self.local()?;
        let second = Self::unbound(local)?;
        second.socket.set_reuse_address(true)?;
        self.socket.set_reuse_address(true)?;
        let anywhere = match self.v6 {
            true => SocketAddr::from((Ipv6Addr::UNSPECIFIED, local.port())),
            false => SocketAddr::from((Ipv4Addr::UNSPECIFIED, local.port())),
        };
        let bound = second.socket.bind(&anywhere.into());
        self.socket.set_reuse_address(false)?;
        bound?;
        second.hear_nobody(local)?;
        second.enlarge_buffers();
        Ok(second)
    }

    /// Leaves what others send to other sockets of this address and port.
    pub(crate) fn hear_only(&self, sender: SocketAddr) -> io::Result<()> {
        self.socket.connect(&sender.into())
    }

    /// Leaves all that is sent to `local` to other sockets: nobody sends from our own address and the port of what is discarded.
    pub(crate) fn hear_nobody(&self, local: SocketAddr) -> io::Result<()> {
        self.hear_only(SocketAddr::new(local.ip(), DISCARD_PORT))
    }

    /// Where it is bound.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        let not_ip = || io::Error::new(io::ErrorKind::InvalidInput, "not a socket for IP");
        self.socket.local_addr()?.as_socket().ok_or_else(not_ip)
    }

    /// Another descriptor of the same socket.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }

    /// The descriptor, for polling and for io_uring.
    pub(crate) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether the kernel may join datagrams of one flow into one receive.
    pub(crate) fn set_gro(&self, on: bool) -> io::Result<()> {
        self.set(libc::SOL_UDP, libc::UDP_GRO, on.into())
    }

    /// Whether it does.
    pub(crate) fn has_gro(&self) -> bool {
        self.get(libc::SOL_UDP, libc::UDP_GRO)
            .is_ok_and(|on| on != 0)
    }

    /// Whether one send may carry many datagrams.
    pub(crate) fn knows_gso(&self) -> bool {
        self.get(libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
    }

    /// Reports the ECN bits of each received datagram.
    pub(crate) fn report_tos(&self) -> io::Result<()> {
        if self.v6 {
            self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)
        } else {
            self.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)
        }
    }

    /// Leaves "don't fragment" clear and ignores path MTU messages, as kernel VXLAN does.
    pub(crate) fn allow_fragments(&self) -> io::Result<()> {
        if self.v6 {
            self.set(
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DONT,
            )
        } else {
            self.set(
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_DONT,
            )
        }
    }

    /// The largest IP packet that the way to `to` takes whole, as far as the kernel knows. The
    /// socket is connected for the question: only one that sends nothing can ask.
    pub(crate) fn path_mtu(&self, to: SocketAddr) -> io::Result<usize> {
        self.socket.connect(&to.into())?;
        let (level, name) = if self.v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU)
        } else {
            (libc::IPPROTO_IP, libc::IP_MTU)
        };
        self.get(level, name).map(|mtu| mtu as usize)
    }

    /// Drops whatever arrives: for sockets that only lend their source port to sends.
    pub(crate) fn refuse_input(&self) -> io::Result<()> {
        // One BPF instruction, "return 0 bytes".
        let code = [libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0,
        }];
        let program = libc::sock_fprog {
            len: 1,
            filter: code.as_ptr().cast_mut(),
        };
        self.set_raw(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Asks for large buffers: past the limits where the privilege allows, else up to them.
    fn enlarge_buffers(&self) {
        let bytes = BUFFER_BYTES as c_int;
        for (force, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            if self.set(libc::SOL_SOCKET, force, bytes).is_err() {
                // Without CAP_NET_ADMIN the kernel caps the request and never fails it.
                let _ = self.set(libc::SOL_SOCKET, plain, bytes);
            }
        }
    }

    fn set(&self, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
        self.set_raw(level, name, &value)
    }

    fn set_raw<T>(&self, level: c_int, name: c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        let pointer: *const c_void = (&raw const *value).cast();
        // SAFETY: the option value is a live borrow of exactly `length` bytes, copied in the call.
        let done = unsafe { libc::setsockopt(self.raw(), level, name, pointer, length) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn get(&self, level: c_int, name: c_int) -> io::Result<c_int> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>() as libc::socklen_t;
        let pointer: *mut c_void = (&raw mut value).cast();
        // SAFETY: `value` and `length` are live and writable, and `length` is the size of `value`.
        let done = unsafe { libc::getsockopt(self.raw(), level, name, pointer, &raw mut length) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value)
    }
}

/// What the kernel makes of one send that it cuts into datagrams, seen on a loopback socket that talks to itself: whether
/// something else arrives than was sent. Where plain datagrams do not arrive either nobody can tell.
pub(crate) fn spoils_segments() -> io::Result<bool> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(socket.local_addr()?)?;
    socket.set_read_timeout(Some(LOOPBACK_PATIENCE))?;
    // The last one is shorter, and no two are alike.
    let sent: Vec<u8> = (0..TRIED_SEGMENT * 7 / 2)
        .map(|at| (at % 251) as u8)
        .collect();
    let mut wanted = sent.chunks(TRIED_SEGMENT);
    let plain = &sent[..TRIED_SEGMENT];
    socket.send(plain)?;
    let mut got = [0; 2 * TRIED_SEGMENT];
    if socket.recv(&mut got)? != plain.len() || got[..plain.len()] != *plain {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let udp = UdpSocket {
        socket: Socket::from(socket),
        v6: false,
    };
    udp.set(libc::SOL_UDP, libc::UDP_SEGMENT, TRIED_SEGMENT as c_int)?;
    udp.socket.send(&sent)?;
    let socket = std::net::UdpSocket::from(udp.socket);
    Ok(!wanted.all(|wanted| matches!(socket.recv(&mut got), Ok(len) if got[..len] == *wanted)))
}

/// Whether this kernel cuts one send into 128 datagrams (Linux 6.9) or only 64: tried on a
/// loopback socket that talks to itself. Where loopback is down the answer is no.
pub(crate) fn accepts_128_segments() -> bool {
    let Ok(socket) = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else {
        return false;
    };
    let to_itself = socket.local_addr().and_then(|own| socket.connect(own));
    let udp = UdpSocket {
        socket: Socket::from(socket),
        v6: false,
    };
    let segmented = udp.set(libc::SOL_UDP, libc::UDP_SEGMENT, 1);
    to_itself.is_ok() && segmented.is_ok() && udp.socket.send(&[0; 128]).is_ok()
}
