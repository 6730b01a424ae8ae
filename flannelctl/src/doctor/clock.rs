//! Whether this host's clock agrees with the other nodes'. Every Linux host tells its time of day to who asks by an
//! ICMP timestamp, unless a firewall is in the way.

use super::Finding;
use crate::ask::words::count;
use console::answers::Peer;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

const CHECK: &str = "clock";
const DAY: i64 = 86_400_000;
/// Certificates do not mind less.
const TOLERATED: i64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(1);
const REQUEST: u8 = 13;
const REPLY: u8 = 14;

/// Compares with so many nodes that tell their time.
pub(super) fn findings(peers: &[Peer], most: usize) -> Vec<Finding> {
    let asked = peers.iter().filter_map(|peer| match peer.address {
        IpAddr::V4(v4) => Some((v4, ahead(v4).ok()?)),
        IpAddr::V6(_) => None,
    });
    let compared: Vec<(Ipv4Addr, i64)> = asked.take(most).collect();
    let apart = compared.iter().filter(|(_, ahead)| ahead.abs() > TOLERATED);
    let apart: Vec<Finding> = apart.map(|(node, ahead)| differs(*node, *ahead)).collect();
    match (apart.is_empty(), compared.len()) {
        (true, 0) => Vec::new(),
        (true, nodes) => vec![Finding::good(
            CHECK,
            format!("agrees with {}", count(nodes, "other node")),
        )],
        (false, _) => apart,
    }
}

fn differs(node: Ipv4Addr, ahead: i64) -> Finding {
    let (seconds, side) = (
        ahead.abs() / 1000,
        if ahead > 0 { "ahead of" } else { "behind" },
    );
    Finding::doubtful(
        CHECK,
        format!("this host is {seconds} s {side} {node}"),
        "let both follow a time server (timedatectl set-ntp true, or chrony): certificates of etcd and the times in logs go by it",
    )
}

/// By how many milliseconds this host's clock is ahead of a node's, give or take half a round trip.
fn ahead(node: Ipv4Addr) -> io::Result<i64> {
    let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let id = std::process::id() as u16;
    let asked = time_of_day();
    let to = SockAddr::from(SocketAddr::from((node, 0)));
    socket.send_to(&request(id, asked), &to)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 256];
    while Instant::now() < deadline {
        // Every raw socket gets every host's packets.
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if let Some(theirs) = told(&buffer[..length], node, id) {
            let ours = (asked + time_of_day()) / 2;
            return Ok(apart(ours, theirs));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The shorter way round the day.
fn apart(ours: i64, theirs: i64) -> i64 {
    (ours - theirs + DAY / 2).rem_euclid(DAY) - DAY / 2
}

/// Milliseconds since midnight UTC.
fn time_of_day() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64 % DAY
}

fn request(id: u16, now: i64) -> [u8; 20] {
    let mut request = [0; 20];
    request[0] = REQUEST;
    request[4..6].copy_from_slice(&id.to_be_bytes());
    request[8..12].copy_from_slice(&(now as u32).to_be_bytes());
    let words = request.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    request
}

/// The time in an IP packet that answers our request.
fn told(packet: &[u8], node: Ipv4Addr, id: u16) -> Option<i64> {
    let header = usize::from(packet.first()? & 15) * 4;
    let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    let icmp = packet.get(header..header + 20)?;
    let ours = icmp[0] == REPLY && icmp[4..6] == id.to_be_bytes() && source == node.octets();
    let received = u32::from_be_bytes(*icmp[12..].first_chunk()?);
    // With the highest bit set it is no time of day.
    (ours && i64::from(received) < DAY).then_some(i64::from(received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_the_shorter_way_round_midnight() {
        assert_eq!(apart(10_000, 4_000), 6_000);
        assert_eq!(apart(1_000, DAY - 1_000), 2_000);
        assert_eq!(apart(DAY - 1_000, 1_000), -2_000);
    }

    #[test]
    fn an_answer_is_read_and_other_packets_are_not() {
        let node = Ipv4Addr::new(192, 168, 77, 2);
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&node.octets());
        packet.extend(request(7, 1234));
        packet[20] = REPLY;
        packet[32..36].copy_from_slice(&4321u32.to_be_bytes());
        assert_eq!(told(&packet, node, 7), Some(4321));
        assert_eq!(told(&packet, node, 8), None);
        assert_eq!(told(&packet, Ipv4Addr::LOCALHOST, 7), None);
        for length in 0..packet.len() {
            assert_eq!(told(&packet[..length], node, 7), None);
        }
        let whole = request(7, 1234);
        let words = whole.chunks(2);
        let sum: u32 = words
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
