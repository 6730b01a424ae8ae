//! What takes a closer look: clocks that differ, paths that are narrow or lose packets, and every dropped packet.

use std::io::Read;
use std::net::UdpSocket;
use std::path::Path as FsPath;
use std::thread;
use std::time::Duration;

use benches::namespace::Namespace;
use benches::{Path, Side};
use socket2::{Domain, Protocol, Socket, Type};

use super::cures::{finds, on_node, up};
use super::scene::ask;

const TIMESTAMP: u8 = 13;
const ANSWER: u8 = 14;
/// How far ahead a wrong clock is.
const HOUR: u32 = 3_600_000;

/// Has a node tell a time of its own for once; the kernel's answers, which are shorter, do not leave it.
fn tell_another_time(node: &Namespace) {
    let quiet =
        "iptables -w -A OUTPUT -p icmp --icmp-type timestamp-reply -m length --length 40 -j DROP";
    node.run(quiet).unwrap();
    let socket = node.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)));
    let mut socket = socket.unwrap();
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).unwrap();
    thread::spawn(move || {
        let mut packet = [0; 256];
        while let Ok(length) = socket.read(&mut packet) {
            if length >= 40 && packet[20] == TIMESTAMP {
                let source = [packet[12], packet[13], packet[14], packet[15]];
                let to = std::net::SocketAddr::from((source, 0));
                return socket
                    .send_to(&answer(&packet[20..40]), &to.into())
                    .map(drop);
            }
        }
        Ok(())
    });
}

fn answer(request: &[u8]) -> Vec<u8> {
    let mut answer = [request, &[0; 4]].concat();
    let asked = u32::from_be_bytes(*request[8..].first_chunk().unwrap());
    let theirs = (asked + HOUR) % 86_400_000;
    answer[0] = ANSWER;
    answer[12..16].copy_from_slice(&theirs.to_be_bytes());
    answer[16..20].copy_from_slice(&theirs.to_be_bytes());
    answer[2..4].fill(0);
    let words = answer
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    answer[2..4].copy_from_slice(&checksum.to_be_bytes());
    answer
}

#[test]
fn doctor_finds_a_clock_that_is_wrong() {
    let (path, socket) = up("udp");
    tell_another_time(path.lab().node(Side::B));
    let told = on_node(&path, &socket, "doctor");
    finds(
        &told,
        &[
            "?   clock: this host is",
            "s behind 192.168.77.2",
            "let both follow a time server",
        ],
    );
    assert_eq!(told.code, 0, "a doubt is no fault: {told:?}");
}

#[test]
fn peers_tell_how_much_gets_there_in_one_piece_and_what_was_lost() {
    let (path, socket) = up("udp");
    let peer = || ask(&socket, "peers --json").json()["peers"][0]["traffic"].clone();
    let (container, _) = path.container(Side::A);
    let (_, far) = path.container(Side::B);
    let large = || container.run(&format!("ping -c 3 -i 0.01 -s 900 {far}"));
    large().unwrap();
    assert_eq!(peer()["path_mtu"], 1472);
    let node = path.lab().node(Side::A);
    node.ip("route add 192.168.77.2/32 dev eth0 mtu 1300")
        .unwrap();
    let narrow = (0..100).any(|_| {
        large().unwrap();
        thread::sleep(Duration::from_millis(50));
        peer()["path_mtu"] == 1300 - 28
    });
    assert!(narrow, "{}", peer());
    assert_eq!(peer()["dropped_packets"], 0);
    let junk = || UdpSocket::bind("192.168.77.2:0")?.send_to(b"no packet", "192.168.77.1:8285");
    path.lab().node(Side::B).enter(junk).unwrap();
    let dropped = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        peer()["dropped_packets"] == 1
    });
    assert!(dropped, "{}", peer());
}

#[test]
fn ping_tells_how_many_packets_got_lost() {
    let (path, socket) = up("udp");
    let lossy = "iptables -w -t raw -A PREROUTING -i eth0 -p udp -m statistic --mode nth --every 2 --packet 0 -j DROP";
    path.lab().node(Side::B).run(lossy).unwrap();
    let told = on_node(&path, &socket, "ping 192.168.77.2 --count 4");
    assert_eq!(told.code, 1, "{told:?}");
    let found = "2 of 4 packets to 192.168.77.2 got lost, the last at: the node 192.168.77.2, or a firewall before it\n  the node answers outside the tunnel, but nothing comes back through it: is flanneld running there, does it hold this node's lease, and do firewalls let UDP of the udp form pass both ways?";
    finds(&told, &[found]);
}

/// The packets in a capture.
fn packets(file: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_ne_bytes(*file[at..].first_chunk().unwrap());
    let (mut at, mut packets) = (0, Vec::new());
    while at < file.len() {
        if word(at) == 6 {
            let bytes = at + 28..at + 28 + word(at + 20) as usize;
            packets.push(file[bytes].to_vec());
        }
        at += word(at + 4) as usize;
    }
    packets
}

/// Sends numbered datagrams from somebody who is no peer, in bursts, as long as somebody waits for them.
fn flood(path: &Path, enough: impl Fn() -> bool) {
    let node = path.lab().node(Side::B);
    node.ip("addr add 192.168.77.66/24 dev eth0").unwrap();
    let socket = node.enter(|| UdpSocket::bind("192.168.77.66:0")).unwrap();
    for number in 0u32.. {
        if number.is_multiple_of(100) {
            if enough() {
                return;
            }
            thread::sleep(Duration::from_millis(300));
        }
        let packet = [&number.to_be_bytes()[..], &[7; 96]].concat();
        socket.send_to(&packet, "192.168.77.1:8285").unwrap();
    }
}

fn capture(path: &Path, socket: &FsPath, words: &str) -> Vec<Vec<u8>> {
    let file = path.lab().scratch().join("capture.pcapng");
    thread::scope(|scope| {
        let words = format!("capture {} --what dropped {words}", file.display());
        let captured = scope.spawn(move || on_node(path, socket, &words));
        flood(path, || captured.is_finished());
        assert_eq!(captured.join().unwrap().code, 0);
    });
    packets(&std::fs::read(&file).unwrap())
}

#[test]
fn a_capture_has_every_dropped_packet_of_whom_and_why_was_asked() {
    let (path, socket) = up("udp");
    let wanted = "--seconds 20 --packets 150 --host 192.168.77.66 --reason in_not_a_peer";
    let packets = capture(&path, &socket, wanted);
    let number = |packet: &Vec<u8>| u32::from_be_bytes(*packet.first_chunk().unwrap());
    let numbers: Vec<u32> = packets.iter().map(number).collect();
    assert_eq!(numbers.len(), 150);
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
}
