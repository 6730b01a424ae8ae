//! A whole engine between two sockets of one test, through the real kernel: a local socket whose
//! traffic the kernel routes into the TUN, and a socket on loopback that plays the peer.
//!
//! ```text
//!   inner 10.5.1.0 ── kernel ── flannel0 ── engine ── 127.0.0.1:8285 ── lo ── 127.0.0.2:8285 peer
//! ```
//! Everything lives in a network namespace of the test's thread and vanishes with it.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(
    dead_code,
    reason = "included by several tests, each of which needs a part of it"
)]
#![allow(unsafe_code, reason = "one socket option")]

#[path = "../oracle/mod.rs"]
pub(crate) mod oracle;

use engine::{
    Engine, EngineConfig, Form, IoChoice, Offloads, Peer, PeerForm, Refusal, Route, SourceCheck,
    SubnetTable,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 5, 1, 0);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 5, 2, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// IPv4 and UDP headers of an inner packet.
pub(crate) const HEADERS: usize = 28;
const PORT: u16 = 8285;

/// The engine and both its ends.
pub(crate) struct Loopback {
    pub(crate) engine: Engine,
    pub(crate) inner: UdpSocket,
    pub(crate) peer: UdpSocket,
}

/// What a test usually starts with.
pub(crate) fn config(io: IoChoice) -> EngineConfig {
    EngineConfig {
        tun_name: "flannel%d".to_owned(),
        workers: Some(1),
        pin: None,
        io,
        forms: vec![Form::Udp { port: PORT }],
        bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        shortcut: None,
        mtu: 1472,
        segment: 1472,
        tun_addresses: vec![OWN.into()],
        offloads: Offloads::default(),
        spin: Duration::ZERO,
        flow_ports: false,
        source_check: SourceCheck::Peers,
        confine: Some(Refusal::End),
    }
}

/// What leads to the peer.
pub(crate) fn table() -> SubnetTable {
    let peer = Peer {
        address: PEER.into(),
        port: PORT,
        form: PeerForm::Udp,
        mtu: None,
    };
    let route = Route {
        subnet: "10.5.2.0/24".parse().unwrap(),
        peer,
    };
    SubnetTable::build(vec!["10.5.1.0/24".parse().unwrap()], [route])
}

/// Every way of moving packets; those of io_uring are left out where the environment has `WITHOUT_IO_URING`, as on
/// a kernel that is too old for them.
pub(crate) fn ways() -> Vec<IoChoice> {
    let mut ways = vec![IoChoice::Epoll, IoChoice::SingleQueue];
    if std::env::var_os("WITHOUT_IO_URING").is_none() {
        ways.extend([IoChoice::UringMultishot, IoChoice::UringOneshot]);
    }
    ways
}

impl Loopback {
    /// Moves this thread to a namespace of its own and starts an engine there.
    pub(crate) fn start(config: EngineConfig) -> Self {
        oracle::enter_namespace();
        let mtu = config.mtu;
        let engine = Engine::start(config, table()).expect("an engine (are we root?)");
        let name = engine.tun_name();
        oracle::run(&format!(
            "sysctl -q -w net.ipv6.conf.{name}.disable_ipv6=1
             ip link set {name} mtu {mtu} up
             ip addr add {OWN}/32 dev {name}
             ip route add 10.5.0.0/16 dev {name}"
        ));
        let inner = UdpSocket::bind((OWN, 0)).unwrap();
        inner.connect((FAR, 9)).unwrap();
        let peer = UdpSocket::bind((PEER, PORT)).unwrap();
        peer.connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        for socket in [&inner, &peer] {
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 32 << 20);
        }
        Self {
            engine,
            inner,
            peer,
        }
    }

    /// Lets one send of the inner socket be many datagrams: the TUN then gives super-packets.
    pub(crate) fn segment_inner(&self, size: u16) {
        segment(&self.inner, size);
    }

    /// Sets the ECN bits of what the peer sends.
    pub(crate) fn mark_peer(&self, ecn: i32) {
        set(&self.peer, libc::IPPROTO_IP, libc::IP_TOS, ecn);
    }

    /// Lets the peer send datagrams without a checksum.
    pub(crate) fn peer_leaves_out_checksums(&self) {
        set(&self.peer, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    }

    /// Lets the inner socket send anywhere.
    pub(crate) fn disconnect_inner(&self) {
        let nowhere = libc::sockaddr {
            sa_family: libc::AF_UNSPEC as u16,
            sa_data: [0; 14],
        };
        let length = size_of::<libc::sockaddr>() as libc::socklen_t;
        // SAFETY: the address is a live borrow of `length` bytes, read in the call.
        let done = unsafe { libc::connect(self.inner.as_raw_fd(), &raw const nowhere, length) };
        assert_eq!(done, 0, "disconnect: {}", io::Error::last_os_error());
    }

    /// What the peer received next: an inner packet.
    pub(crate) fn peer_receives<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        let len = receive(&self.peer, buffer).expect("a datagram at the peer");
        &buffer[..len]
    }

    /// An inner UDP packet from the peer's side to the inner socket.
    pub(crate) fn packet_inward(&self, payload: &[u8], id: u16) -> Vec<u8> {
        let port = self.inner.local_addr().unwrap().port();
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        let total = (HEADERS + payload.len()) as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet.extend(FAR.octets());
        packet.extend(OWN.octets());
        let check = !oracle::packet::sum(&packet);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
        let udp_len = (8 + payload.len()) as u16;
        packet.extend(9u16.to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend(udp_len.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, 17]);
        pseudo.extend(udp_len.to_be_bytes());
        pseudo.extend(&packet[20..]);
        let check = !oracle::packet::sum(&pseudo);
        packet[26..28].copy_from_slice(&check.to_be_bytes());
        packet
    }
}

/// Receives, also when a notice of the kernel's about an io_uring that was closed gets in between.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Lets one send of a socket be many datagrams of this size.
pub(crate) fn segment(socket: &UdpSocket, size: u16) {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, size.into());
}

/// Lets whoever wants to fragment what a socket sends.
pub(crate) fn allow_fragments(socket: &UdpSocket) {
    set(
        socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_DONT,
    );
}

fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option value is a live borrow of `length` bytes, copied in the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    };
    assert_eq!(
        done,
        0,
        "socket option {name}: {}",
        io::Error::last_os_error()
    );
}
