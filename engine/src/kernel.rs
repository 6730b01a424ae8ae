//! What the kernel has of all that an engine can use, asked of a device and sockets that are closed again: for somebody
//! who wants to know it without an engine. The device is made in the network namespace of the calling thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::capabilities::{IoKind, gso_segments, open_tun};
use crate::config::{IoChoice, Offloads};
use crate::probe;
use crate::sys::udp::UdpSocket;

/// What was found.
#[derive(Debug)]
pub struct Kernel {
    /// What its TUN devices can do, or why there is none.
    pub tun: io::Result<Tun>,
    /// What its UDP sockets can do, or why there is none.
    pub udp: io::Result<Udp>,
    /// Whether rings read as the engine has them do, or why not.
    pub rings: [(IoKind, io::Result<()>); 2],
}

/// A TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tun {
    /// Several queues, one for each worker.
    pub multi_queue: bool,
    /// Half-finished packets and super-packets at all.
    pub virtio_header: bool,
    /// TCP super-packets.
    pub tso: bool,
    /// UDP super-packets.
    pub uso: bool,
}

/// A UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Datagrams one send may carry (UDP_SEGMENT); 1 where it cannot.
    pub gso_segments: u16,
    /// Many datagrams in one receive (UDP_GRO).
    pub gro: bool,
}

impl Kernel {
    /// Tries everything.
    pub fn look() -> Self {
        let rings = [IoKind::UringOneshot, IoKind::UringMultishot];
        Self {
            tun: tun(),
            udp: udp(),
            rings: rings.map(|kind| (kind, probe::works(kind))),
        }
    }
}

fn tun() -> io::Result<Tun> {
    let open = open_tun("probe%d", 2, IoChoice::Auto, &Offloads::default())?;
    Ok(Tun {
        multi_queue: open.queues.len() > 1,
        virtio_header: open.vnet_header,
        tso: open.tso,
        uso: open.uso,
    })
}

fn udp() -> io::Result<Udp> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = UdpSocket::bind(any, false)?;
    Ok(Udp {
        gso_segments: gso_segments(&socket, &Offloads::default()),
        gro: socket.set_gro(true).is_ok(),
    })
}
