//! What the sender is told when a packet cannot go on.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use benches::frames::FramePort;
use benches::{Path, Profile, Side};

use super::carry::{Crossing, assert_same, icmp_after, mac, octets};
use super::inner::{
    DONT_FRAGMENT, ICMP, IPV4_HEADER, Inner, Ip, UDP, UDP_CHECKSUM, checksum, pattern, udp,
};
use super::setup::{up, versions};
use super::traffic::{datagrams, stream};

const UNREACHABLE: u8 = 3;
const NET: u8 = 0;
const PORT: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const TIME_EXCEEDED: u8 = 11;
/// In the overlay network, leased by nobody.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 5, 250, 9);

/// An ICMP message: who sent it, type, code and the word before the quoted packet.
struct Message {
    from: Ipv4Addr,
    kind: (u8, u8),
    word: u32,
    quoted: Vec<u8>,
}

fn messages_after(path: &Path, provoke: impl FnOnce()) -> Vec<Message> {
    let packets = icmp_after(path.lab().container(Side::A), provoke);
    packets.iter().map(|packet| read(packet)).collect()
}

fn read(packet: &[u8]) -> Message {
    let icmp = &packet[IPV4_HEADER..usize::from(u16::from_be_bytes([packet[2], packet[3]]))];
    assert_eq!(
        checksum(&packet[..IPV4_HEADER]),
        0,
        "header checksum of an answer"
    );
    assert_eq!(checksum(icmp), 0, "ICMP checksum of an answer");
    Message {
        from: Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap()),
        kind: (icmp[0], icmp[1]),
        word: u32::from_be_bytes(icmp[4..8].try_into().unwrap()),
        quoted: icmp[8..].to_vec(),
    }
}

fn socket(path: &Path) -> UdpSocket {
    let (container, address) = path.container(Side::A);
    container.enter(|| UdpSocket::bind((address, 0))).unwrap()
}

fn nobody_is_unreachable(name: &str) {
    let path = up(name, Profile::Offload);
    let socket = socket(&path);
    let messages = messages_after(&path, || drop(socket.send_to(b"anyone?", (NOBODY, 9))));
    let answer = messages
        .iter()
        .find(|message| message.kind == (UNREACHABLE, NET));
    let answer = answer.unwrap_or_else(|| panic!("no answer\n{}", path.logs()));
    assert_eq!(
        answer.quoted[16..20],
        NOBODY.octets(),
        "the packet in question is quoted"
    );
}

versions! { nobody_is_unreachable:
    a_container_learns_in_udp_form_that_nobody_has_an_address("udp");
    a_container_learns_in_vxlan_form_that_nobody_has_an_address("vxlan");
    a_container_learns_over_epoll_that_nobody_has_an_address("udp+io=epoll");
    a_container_learns_over_io_uring_that_nobody_has_an_address("udp+io=uring");
    a_container_learns_over_a_single_queue_that_nobody_has_an_address("udp+io=single-queue");
}

/// What traceroute does: the packet with one more hop to live each time, until the target answers.
fn every_hop_answers(name: &str) {
    let path = up(name, Profile::Offload);
    let IpAddr::V4(target) = path.container(Side::B).1 else {
        panic!("an IPv4 lab")
    };
    let socket = socket(&path);
    let mut hops = Vec::new();
    for ttl in 1..=8 {
        socket.set_ttl(ttl).unwrap();
        let messages = messages_after(&path, || drop(socket.send_to(b"trace", (target, 33_434))));
        let message = messages
            .first()
            .unwrap_or_else(|| panic!("hop {ttl} is silent after {hops:?}\n{}", path.logs()));
        hops.push(message.from);
        if message.kind == (UNREACHABLE, PORT) {
            break;
        }
        assert_eq!(message.kind, (TIME_EXCEEDED, 0), "hop {ttl} after {hops:?}");
    }
    assert_eq!(
        hops[0],
        path.subnet(Side::A).gateway(),
        "the first hop is the node"
    );
    assert_eq!(
        hops.last(),
        Some(&target),
        "the last one is the target: {hops:?}"
    );
    assert!(hops.len() >= 3, "both nodes are seen: {hops:?}");
}

versions! { every_hop_answers:
    traceroute_sees_every_hop_in_udp_form("udp");
    traceroute_sees_every_hop_in_vxlan_form("vxlan");
    traceroute_sees_every_hop_with_kernel_vxlan("mixed-vxlan");
    traceroute_sees_every_hop_without_offloads("udp+no-offload=all");
}

/// A container that believes in a larger MTU sends what does not fit the tunnel.
fn the_tunnel_mtu_is_told(name: &str, device_mtu: u32) {
    let path = up(name, Profile::Offload);
    let (node, container) = (path.lab().node(Side::A), path.lab().container(Side::A));
    node.ip("link set cni0 mtu 1600\nlink set pod0 mtu 1600")
        .unwrap();
    node.ip(&format!("link set flannel0 mtu {device_mtu}"))
        .unwrap();
    container.ip("link set eth0 mtu 1600").unwrap();
    let crossing = Crossing::open(
        path.lab(),
        Side::BOTH.map(|side| path.subnet(side)),
        Side::A,
    );
    let large = large_packet(&crossing, path.mtu() as usize + 1, DONT_FRAGMENT);
    let messages = messages_after(&path, || crossing.send(&large));
    let answer = messages
        .iter()
        .find(|message| message.kind == (UNREACHABLE, FRAGMENTATION_NEEDED));
    let answer = answer.unwrap_or_else(|| panic!("no answer\n{}", path.logs()));
    assert_eq!(answer.word & 0xffff, path.mtu(), "the MTU that fits");
}

fn large_packet(crossing: &Crossing, size: usize, fragment: u16) -> Inner {
    let mut ip = crossing.ip(UDP);
    ip.fragment = fragment;
    ip.finished(udp((4400, 5400), &pattern(1, size - 28)), UDP_CHECKSUM)
}

versions! { the_tunnel_mtu_is_told:
    the_device_refuses_what_does_not_fit_the_udp_form("udp", 1472);
    the_device_refuses_what_does_not_fit_the_vxlan_form("vxlan", 1450);
    the_daemon_refuses_what_does_not_fit_the_udp_form_when_its_device_takes_more("udp", 1600);
    the_daemon_refuses_what_does_not_fit_the_vxlan_form_when_its_device_takes_more("vxlan", 1600);
}

/// As kernel VXLAN does, the daemon lets a smaller underlay cut its datagrams. The path is narrower than the
/// interface: an interface that shrinks is followed by the daemon, which is not what is tested here.
fn a_shrunk_underlay_still_carries(name: &str) {
    let path = up(name, Profile::Offload);
    for side in Side::BOTH {
        let narrow = format!(
            "route add {} dev eth0 mtu lock 1400",
            side.other().underlay()
        );
        path.lab().node(side).ip(&narrow).unwrap();
    }
    let mut crossing = Crossing::open(
        path.lab(),
        Side::BOTH.map(|side| path.subnet(side)),
        Side::A,
    );
    let packets =
        [0, DONT_FRAGMENT].map(|fragment| large_packet(&crossing, path.mtu() as usize, fragment));
    let sent: Vec<_> = packets.iter().map(|packet| packet.bytes.clone()).collect();
    assert_same(&crossing.carry(&packets), &sent, name);
}

versions! { a_shrunk_underlay_still_carries:
    large_packets_cross_a_shrunk_underlay_in_udp_form("udp");
    large_packets_cross_a_shrunk_underlay_in_vxlan_form("vxlan");
    large_packets_cross_a_shrunk_underlay_without_offloads("udp+no-offload=all");
}

/// How many fragments a node has made so far.
fn fragments(path: &Path, side: Side) -> u64 {
    let table = path.lab().node(side).run("cat /proc/net/snmp").unwrap();
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let pairs = names.split(' ').zip(values.split(' '));
    let (_, made) = pairs
        .into_iter()
        .find(|(name, _)| *name == "FragCreates")
        .unwrap();
    made.parse().unwrap()
}

/// Containers learn what a narrow path takes, so that but a few packets of a stream are cut; and
/// none once the path is wide again.
fn a_stream_adapts_to_a_narrow_path(name: &str) {
    let path = up(name, Profile::Offload);
    stream(&path, Side::A);
    let made = || {
        Side::BOTH
            .map(|side| fragments(&path, side))
            .iter()
            .sum::<u64>()
    };
    let change = |what: &str, mtu: &str| {
        for side in Side::BOTH {
            let route = format!("route {what} {} dev eth0 {mtu}", side.other().underlay());
            path.lab().node(side).ip(&route).unwrap();
        }
        // The kernel is asked about a path once a second.
        thread::sleep(Duration::from_millis(1100));
    };
    assert_eq!(made(), 0, "a wide path needs none");
    change("add", "mtu lock 1400");
    stream(&path, Side::A);
    let few = made();
    assert!(
        (1..5000).contains(&few),
        "{few} fragments of 18,000 packets"
    );
    stream(&path, Side::A);
    assert_eq!(made(), few, "what was learned lasts");
    change("del", "");
    stream(&path, Side::A);
    datagrams(&path, Side::A);
    assert_eq!(made(), few, "a path that is wide again needs none");
}

versions! { a_stream_adapts_to_a_narrow_path:
    a_stream_adapts_to_a_narrow_path_in_udp_form("udp");
    a_stream_adapts_to_a_narrow_path_in_vxlan_form("vxlan");
    a_stream_adapts_to_a_narrow_path_without_offloads("udp+no-offload=all");
}

/// What a router behind node A would say of a datagram to B that does not fit its next link.
fn fragmentation_needed(path: &Path, mtu: u16) {
    let [a, b] = Side::BOTH.map(Side::underlay);
    let [near, far] = Side::BOTH.map(|side| octets(&mac(path.lab().node(side), "eth0")));
    let refused = Ip::new(a, b, UDP).packet(&udp((8285, 8285), &[0; 1400]));
    let mut message = vec![UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&refused.bytes[..IPV4_HEADER + 8]);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let router = Ipv4Addr::new(192, 168, 77, 254);
    let packet = Ip::new(router, a, ICMP).packet(&message);
    let frame = [near, far, vec![8, 0], packet.bytes].concat();
    let port = FramePort::open(path.lab().node(Side::B), "eth0").unwrap();
    port.send(&frame).unwrap();
}

#[test]
fn what_a_router_says_of_a_narrow_link_reaches_the_containers() {
    let path = up("udp", Profile::Offload);
    fragmentation_needed(&path, 1400);
    thread::sleep(Duration::from_millis(1100));
    stream(&path, Side::A);
    let (container, _) = path.container(Side::A);
    let (_, target) = path.container(Side::B);
    let route = container.run(&format!("ip route get {target}")).unwrap();
    assert!(route.contains("mtu 1372"), "{route}");
}
