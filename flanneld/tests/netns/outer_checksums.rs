//! The outer checksum between IPv6 addresses, as it crosses the underlay: IPv6 forbids to leave it out, and what arrives
//! without is thrown away by everybody but those who were told otherwise.

use std::time::{Duration, Instant};

use benches::frames::FramePort;
use benches::{Profile, Side};

use super::inner::{UDP, checksum};
use super::setup::{up, versions};
use super::traffic::{datagrams, stream};

const ETHERNET: usize = 14;
const HEADER: usize = 40;
const CHECKSUM: std::ops::Range<usize> = HEADER + 6..HEADER + 8;
const PORTS: [u16; 2] = [8285, 8472];
/// Frames that must have been seen for a test to mean something: large ones are cut out of runs, where there are runs.
const ENOUGH: usize = 500;
const LARGE: usize = 1200;

/// The outer IPv6 packet of a frame that belongs to a tunnel.
fn outer(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(ETHERNET..)?;
    let port = packet.get(HEADER + 2..HEADER + 4)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    let tunnel = packet[0] >> 4 == 6 && packet[6] == UDP && PORTS.contains(&port);
    tunnel.then_some(packet)
}

/// What the addresses, the protocol, the length and every byte behind the header add up to.
fn sum(packet: &[u8]) -> u16 {
    let datagram = &packet[HEADER..];
    let mut summed = packet[8..HEADER].to_vec();
    summed.extend((datagram.len() as u32).to_be_bytes());
    summed.extend([0, 0, 0, UDP]);
    summed.extend(datagram);
    checksum(&summed)
}

fn every_checksum_is_there_and_right(name: &str) {
    let path = up(name, Profile::Wire);
    // The device leaves nothing to the one behind it, as a card that is not told to.
    path.lab()
        .node(Side::A)
        .run("ethtool -K eth0 tx off")
        .unwrap();
    let mut wire = FramePort::open(path.lab().node(Side::B), "eth0").unwrap();
    datagrams(&path, Side::A);
    stream(&path, Side::A);
    let (mut small, mut large) = (0, 0);
    let now = Instant::now();
    while let Some(frame) = wire.receive(now + Duration::from_millis(1)).unwrap() {
        let Some(packet) = outer(frame) else { continue };
        assert_ne!(packet[CHECKSUM], [0, 0], "no checksum");
        assert_eq!(sum(packet), 0, "{:02x?}", &packet[..HEADER + 8]);
        match packet.len() {
            ..LARGE => small += 1,
            _ => large += 1,
        }
    }
    assert!(small > ENOUGH && large > ENOUGH, "{small} and {large}");
}

versions! { every_checksum_is_there_and_right:
    outer_checksums_of_ipv6_are_right_in_udp_form("udp+inner=6");
    outer_checksums_of_ipv6_are_right_in_vxlan_form("vxlan+inner=6");
    outer_checksums_of_ipv6_are_right_where_every_packet_is_sent_alone("udp+inner=6+no-offload=gso");
    outer_checksums_of_ipv6_are_right_in_vxlan_form_packet_by_packet("vxlan+inner=6+no-offload=gso");
    outer_checksums_of_ipv6_are_right_around_ipv4("vxlan+outer=6");
    outer_checksums_of_ipv6_are_right_beside_the_kernels_endpoint("mixed-vxlan+inner=6");
}
