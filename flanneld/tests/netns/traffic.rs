//! Containers talk as they would anywhere: streams, datagrams, pings; every byte is compared.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use benches::{Path, Profile, Side};

use super::setup::{up, versions};

const STREAM_BYTES: usize = 24 << 20;
const CHUNK: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
const DATAGRAMS: u32 = 2000;
const IN_FLIGHT: u32 = 50;

fn containers_talk(name: &str, profile: Profile) {
    let path = up(name, profile);
    for from in Side::BOTH {
        ping(&path, from);
        datagrams(&path, from);
        stream(&path, from);
    }
}

/// One answer to the largest question, however long the machine takes over it.
fn ping(path: &Path, from: Side) {
    let ((near, _), (_, target)) = (path.container(from), path.container(from.other()));
    let size = path.mtu() - headers(path);
    near.run(&format!("ping -c 1 -w 10 -M do -s {size} {target}"))
        .unwrap();
}

/// Headers of a datagram, and of a question of ping's.
fn headers(path: &Path) -> u32 {
    match path.container(Side::A).1 {
        IpAddr::V4(_) => 28,
        IpAddr::V6(_) => 48,
    }
}

/// Datagrams of changing sizes there, their numbers back. All arrive, once and unchanged; their
/// order is tested where traffic goes one way, because a TUN moves a flow to the queue of its
/// answers and may let the first few overtake each other.
pub(crate) fn datagrams(path: &Path, from: Side) {
    let [near, far] = [from, from.other()].map(|side| bound(path, side));
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    let largest = path.mtu() - headers(path);
    thread::scope(|scope| {
        scope.spawn(|| answer_all(&far, largest));
        let mut answers = BTreeSet::new();
        for number in 0..DATAGRAMS + IN_FLIGHT {
            if number < DATAGRAMS {
                near.send(&datagram(number, largest)).unwrap();
            }
            if number >= IN_FLIGHT {
                let mut answer = [0; 4];
                near.recv_exact(&mut answer);
                assert!(answers.insert(answer), "answer {answer:?} came twice");
            }
        }
    });
}

fn answer_all(far: &UdpSocket, largest: u32) {
    let mut buffer = vec![0; 1500];
    for _ in 0..DATAGRAMS {
        let length = far.recv(&mut buffer).expect("a datagram did not arrive");
        let number = *buffer.first_chunk().unwrap();
        let sent = datagram(u32::from_be_bytes(number), largest);
        assert_eq!(buffer[..length], sent, "datagram {number:?}");
        far.send(&number).unwrap();
    }
}

/// Like `Read::read_exact`, for one datagram.
trait ReceiveExact {
    fn recv_exact(&self, buffer: &mut [u8]);
}

impl ReceiveExact for UdpSocket {
    fn recv_exact(&self, buffer: &mut [u8]) {
        assert_eq!(
            self.recv(buffer).expect("an answer did not arrive"),
            buffer.len()
        );
    }
}

/// Its number and as many bytes more as make it one of the sizes.
fn datagram(number: u32, largest: u32) -> Vec<u8> {
    let length = if number.is_multiple_of(3) {
        36
    } else {
        number % (largest - 4) + 4
    };
    let rest = (4..length).map(|place| (place * 7 + number) as u8);
    number.to_be_bytes().into_iter().chain(rest).collect()
}

/// One long stream, checked byte by byte.
pub(crate) fn stream(path: &Path, from: Side) {
    let (mut near, mut far) = connected(path, from);
    thread::scope(|scope| {
        scope.spawn(move || {
            for start in (0..STREAM_BYTES).step_by(CHUNK) {
                near.write_all(&chunk(start)).expect("the stream broke");
            }
            near.shutdown(Shutdown::Write).unwrap();
        });
        let mut buffer = vec![0; CHUNK];
        for start in (0..STREAM_BYTES).step_by(CHUNK) {
            far.read_exact(&mut buffer).expect("the stream broke");
            assert!(buffer == chunk(start), "stream differs after byte {start}");
        }
        assert_eq!(
            far.read(&mut buffer).unwrap(),
            0,
            "the stream ends where it should"
        );
    });
}

fn chunk(start: usize) -> Vec<u8> {
    let words = (start..start + CHUNK)
        .step_by(8)
        .map(|place| (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

fn connected(path: &Path, from: Side) -> (TcpStream, TcpStream) {
    let ((near, _), (far, address)) = (path.container(from), path.container(from.other()));
    let listener = far.enter(|| TcpListener::bind((address, 0))).unwrap();
    let target = listener.local_addr().unwrap();
    let near = near
        .enter(|| TcpStream::connect_timeout(&target, PATIENCE))
        .unwrap();
    let far = listener.accept().unwrap().0;
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    near.set_write_timeout(Some(PATIENCE)).unwrap();
    (near, far)
}

/// A socket in a container that gives up when nothing comes.
pub(crate) fn bound(path: &Path, side: Side) -> UdpSocket {
    let (container, address) = path.container(side);
    let socket = container
        .enter(|| UdpSocket::bind(SocketAddr::new(address, 0)))
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

versions! { containers_talk:
    containers_talk_in_udp_form("udp", Profile::Offload);
    containers_talk_in_udp_form_over_mtu_size_packets("udp", Profile::Wire);
    containers_talk_in_udp_form_with_gro("udp", Profile::WireGro);
    containers_talk_in_vxlan_form("vxlan", Profile::Offload);
    containers_talk_in_vxlan_form_over_mtu_size_packets("vxlan", Profile::Wire);
    containers_talk_in_vxlan_form_with_gro("vxlan", Profile::WireGro);
    containers_talk_with_kernel_vxlan("mixed-vxlan", Profile::Offload);
    containers_talk_with_kernel_vxlan_over_mtu_size_packets("mixed-vxlan", Profile::Wire);
    containers_talk_with_kernel_vxlan_with_gro("mixed-vxlan", Profile::WireGro);
    containers_talk_with_a_one_packet_peer("mixed-udp", Profile::Offload);
    containers_talk_with_a_one_packet_peer_over_mtu_size_packets("mixed-udp", Profile::Wire);
    containers_talk_over_io_uring_multishot("vxlan+io=uring-multishot", Profile::Offload);
    containers_talk_over_io_uring_oneshot("vxlan+io=uring-oneshot", Profile::Offload);
    containers_talk_over_epoll("vxlan+io=epoll", Profile::Offload);
    containers_talk_over_a_single_plain_queue("vxlan+io=single-queue", Profile::Offload);
    containers_talk_without_tso("udp+no-offload=tso", Profile::Offload);
    containers_talk_without_uso("udp+no-offload=uso", Profile::Offload);
    containers_talk_without_gso("udp+no-offload=gso", Profile::Offload);
    containers_talk_without_gro("udp+no-offload=gro", Profile::Offload);
    containers_talk_without_merging("udp+no-offload=merge", Profile::Offload);
    containers_talk_without_any_offload("udp+no-offload=all", Profile::Offload);
    containers_talk_with_kernel_vxlan_without_any_offload("mixed-vxlan+no-offload=all", Profile::Offload);
    containers_talk_with_kernel_vxlan_over_a_single_plain_queue("mixed-vxlan+io=single-queue", Profile::Offload);
    containers_talk_with_kernel_vxlan_over_io_uring("mixed-vxlan+io=uring", Profile::Offload);
    containers_talk_over_two_workers("udp+workers=2", Profile::Offload);
    containers_talk_while_workers_spin("vxlan+spin=50", Profile::Offload);
    containers_talk_ipv6_in_udp_form("udp+inner=6", Profile::Offload);
    containers_talk_ipv6_in_udp_form_over_mtu_size_packets("udp+inner=6", Profile::Wire);
    containers_talk_ipv6_in_vxlan_form("vxlan+inner=6", Profile::Offload);
    containers_talk_ipv6_in_vxlan_form_with_gro("vxlan+inner=6", Profile::WireGro);
    containers_talk_ipv6_with_kernel_vxlan("mixed-vxlan+inner=6", Profile::Offload);
    containers_talk_ipv6_with_kernel_vxlan_over_mtu_size_packets("mixed-vxlan+inner=6", Profile::Wire);
    containers_talk_ipv6_over_io_uring("udp+inner=6+io=uring", Profile::Offload);
    containers_talk_ipv6_over_a_single_plain_queue("vxlan+inner=6+io=single-queue", Profile::Offload);
    containers_talk_ipv6_without_any_offload("udp+inner=6+no-offload=all", Profile::Offload);
    containers_talk_ipv6_between_ipv4_addresses_in_udp_form("udp+inner=6+outer=4", Profile::Offload);
    containers_talk_ipv6_between_ipv4_addresses_in_vxlan_form("vxlan+inner=6+outer=4", Profile::Wire);
    containers_talk_ipv4_between_ipv6_addresses_in_udp_form("udp+outer=6", Profile::Wire);
    containers_talk_ipv4_between_ipv6_addresses_in_vxlan_form("vxlan+outer=6", Profile::Offload);
    containers_talk_over_a_node_with_both_forms("vxlan+forms=vxlan,udp", Profile::Offload);
}
