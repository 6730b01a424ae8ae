//! The peer that the daemon is measured against: flannel's UDP form, one packet at a time.
//!
//! ```text
//! poll(tun, socket) ─> read tun ─> sendto ─> recv ─> write tun ─> read tun ─> … until both are dry
//! ```
//!
//! It has the shape of the original proxy: one thread, one packet per system call, a linear table
//! whose last match moves to the front, TTL lowered in both directions with the header checksum
//! patched, no other check. Within that shape nothing is left out that would make it faster.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::cpu;
use crate::lab::Subnet;
use crate::namespace::Namespace;
use crate::sys;

const IPV4_HEADER: usize = 20;
const TTL: usize = 8;
const CHECKSUM: usize = 10;
const DESTINATION: usize = 16;
/// How often an idle peer looks whether it is to stop.
const STOP_CHECK_MS: i32 = 50;

/// Where a one-packet peer listens and what it routes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address and port of its socket.
    pub listen: SocketAddrV4,
    /// Its own container network.
    pub subnet: Subnet,
    /// The network that is routed into its device.
    pub network: Subnet,
    /// The device's MTU.
    pub mtu: u32,
    /// The peers' container networks and sockets.
    pub peers: Vec<(Subnet, SocketAddrV4)>,
}

/// A running one-packet peer: a thread with a TUN device and a socket in a node's namespace.
#[derive(Debug)]
pub struct OnePacketPeer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    stat: PathBuf,
}

impl OnePacketPeer {
    /// Sets up the device, its address and its route, and starts forwarding.
    pub fn start(node: &Namespace, config: &Config) -> io::Result<Self> {
        let (tun, socket) =
            node.enter(|| Ok((sys::open_tun("flannel0")?, UdpSocket::bind(config.listen)?)))?;
        node.ip(&format!(
            "addr add {}/32 dev flannel0\nlink set flannel0 mtu {} up\nroute add {} dev flannel0",
            config.subnet.base, config.mtu, config.network
        ))?;
        let forwarder = Forwarder {
            tun,
            socket,
            routes: linear(&config.peers),
        };
        Self::spawn(forwarder, config.mtu as usize)
    }

    fn spawn(mut forwarder: Forwarder, mtu: usize) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (tell, told)) = (Arc::clone(&stop), mpsc::channel());
        let thread = thread::Builder::new()
            .name("one-packet".into())
            .spawn(move || {
                let _ = tell.send(std::fs::read_link("/proc/thread-self"));
                forwarder.run(&stopped, &mut vec![0; mtu]);
            })?;
        let task = told.recv().map_err(io::Error::other)??;
        Ok(Self {
            stop,
            thread: Some(thread),
            stat: PathBuf::from("/proc").join(task).join("stat"),
        })
    }

    /// Processor time it has used so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu::used_by(&self.stat)
    }
}

impl Drop for OnePacketPeer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has already been printed.
            let _ = thread.join();
        }
    }
}

struct Route {
    network: u32,
    mask: u32,
    peer: SocketAddrV4,
}

struct Forwarder {
    tun: File,
    socket: UdpSocket,
    routes: Vec<Route>,
}

impl Forwarder {
    fn run(&mut self, stop: &AtomicBool, buffer: &mut [u8]) {
        let mut polls = [
            sys::readable(self.tun.as_fd()),
            sys::readable(self.socket.as_fd()),
        ];
        while !stop.load(Ordering::Relaxed) {
            if sys::wait_readable(&mut polls, STOP_CHECK_MS).is_ok_and(|ready| ready > 0) {
                while self.tun_to_socket(buffer) | self.socket_to_tun(buffer) {}
            }
        }
    }

    /// Moves one packet outward; false when there is none.
    fn tun_to_socket(&mut self, buffer: &mut [u8]) -> bool {
        let Ok(length) = self.tun.read(buffer) else {
            return false;
        };
        let packet = &mut buffer[..length];
        if let Some(peer) = self.next_hop(packet).filter(|_| lower_ttl(packet)) {
            // A lost packet is a lost packet: nothing is retried.
            let _ = self.socket.send_to(packet, peer);
        }
        true
    }

    /// Moves one packet inward; false when there is none.
    fn socket_to_tun(&mut self, buffer: &mut [u8]) -> bool {
        let Ok(length) = sys::receive_now(self.socket.as_fd(), buffer) else {
            return false;
        };
        let packet = &mut buffer[..length];
        if length >= IPV4_HEADER && lower_ttl(packet) {
            let _ = self.tun.write(packet);
        }
        true
    }

    fn next_hop(&mut self, packet: &[u8]) -> Option<SocketAddrV4> {
        let destination = packet
            .get(DESTINATION..IPV4_HEADER)?
            .try_into()
            .map(u32::from_be_bytes)
            .ok()?;
        let found = self
            .routes
            .iter()
            .position(|route| destination & route.mask == route.network)?;
        self.routes.swap(0, found);
        Some(self.routes[0].peer)
    }
}

fn linear(peers: &[(Subnet, SocketAddrV4)]) -> Vec<Route> {
    let route = |&(subnet, peer): &(Subnet, SocketAddrV4)| {
        let mask = u32::MAX << (32 - subnet.length);
        Route {
            network: Ipv4Addr::to_bits(subnet.base) & mask,
            mask,
            peer,
        }
    };
    peers.iter().map(route).collect()
}

/// Lowers the TTL and patches the header checksum (RFC 1624); false when the packet must not go on.
fn lower_ttl(packet: &mut [u8]) -> bool {
    if packet[TTL] <= 1 {
        return false;
    }
    packet[TTL] -= 1;
    let sum = u32::from(u16::from_be_bytes([packet[CHECKSUM], packet[CHECKSUM + 1]])) + 0x0100;
    let folded = (sum + (sum >> 16)) as u16;
    packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&folded.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ttl: u8) -> [u8; IPV4_HEADER] {
        let mut header = [
            0x45, 0, 0, 20, 0x12, 0x34, 0, 0, ttl, 17, 0, 0, 10, 5, 1, 2, 10, 5, 2, 2,
        ];
        let sum = !ones_sum(&header);
        header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn ones_sum(bytes: &[u8]) -> u16 {
        let words = bytes
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    #[test]
    fn the_checksum_stays_right_at_every_ttl() {
        for ttl in 2..=255 {
            let mut packet = header(ttl);
            assert!(lower_ttl(&mut packet));
            assert_eq!((packet[TTL], ones_sum(&packet)), (ttl - 1, 0xffff));
        }
    }

    #[test]
    fn a_packet_at_the_end_of_its_life_stops() {
        assert!(!lower_ttl(&mut header(1)));
        assert!(!lower_ttl(&mut header(0)));
    }
}
