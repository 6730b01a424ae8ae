//! Splitting against the kernel: the same super-packets go through our splitter and through Linux,
//! which forwards them from a TUN with virtio headers to one without any offload. Byte for byte the
//! same has to come out.

mod oracle;

use engine::wire::split::{Splitter, finish_checksum};
use engine::wire::virtio::VirtioNetHdr;
use oracle::packet::{Check, Random, Sketch, after_one_hop, random_super_packet};
use oracle::tun::Tun;

/// Four tests with as many super-packets each.
const CASES: usize = 26_000;

/// Our way: a super-packet is split, of an ordinary packet the checksum is finished.
fn ours(mut packet: Vec<u8>, header: &VirtioNetHdr) -> Vec<Vec<u8>> {
    if header.gso_type == VirtioNetHdr::GSO_NONE {
        finish_checksum(&mut packet, header).expect("a packet of ours");
        return vec![packet];
    }
    let splitter = Splitter::new(&packet, header).expect("a super-packet of ours");
    let segment = |i| {
        let mut bytes = vec![0; splitter.header_len()];
        let payload = splitter.write_header(&packet, i, &mut bytes);
        bytes.extend(&packet[payload]);
        bytes
    };
    (0..splitter.segments()).map(segment).collect()
}

/// Mostly small, now and then as large as can be; the kernel takes no more than 128 datagrams.
fn random_case(random: &mut Random, v6: bool, tcp: bool) -> (Sketch, u16) {
    let largest = if random.one_in(40) { 65_400 } else { 4000 };
    let (mut sketch, gso_size) = random_super_packet(random, largest, 128);
    (sketch.v6, sketch.tcp) = (v6, tcp);
    if random.one_in(8) {
        let len = 8 * (1 + random.below(5));
        sketch.ip_options = if v6 { vec![0; len] } else { vec![1; len] };
    }
    sketch.payload.truncate(65_535 - sketch.header_len());
    // One segment is no super-packet, and with TCP options Linux 6.18 loses it when it is called
    // one.
    let gso_size = if sketch.payload.len() > usize::from(gso_size) {
        gso_size
    } else {
        0
    };
    (sketch, gso_size)
}

/// What went wrong, without the payload.
fn difference(sketch: &Sketch, ours: &[u8], theirs: Option<&[u8]>) -> String {
    let header = &after_one_hop(ours)[..sketch.header_len()];
    let theirs = theirs.map(|packet| &packet[..packet.len().min(header.len())]);
    let (len, sketch) = (
        sketch.payload.len(),
        Sketch {
            payload: Vec::new(),
            ..sketch.clone()
        },
    );
    format!("{sketch:?} with {len} bytes of payload\nours   {header:02x?}\ntheirs {theirs:02x?}")
}

fn the_kernel_agrees(v6: bool, tcp: bool) {
    let mut random = oracle::seeded();
    oracle::enter_namespace();
    let (mut from, mut to) = (Tun::with_offloads("tun1"), Tun::plain("tun2"));
    oracle::attach("tun1", 1);
    oracle::attach("tun2", 2);
    let mut segments = 0;
    for case in 0..CASES {
        let (sketch, gso_size) = random_case(&mut random, v6, tcp);
        let packet = sketch.with(Check::Unfinished).build();
        let header = sketch.virtio(gso_size, random.below(packet.len()) as u16);
        from.write(&header, &packet)
            .unwrap_or_else(|err| panic!("case {case}: {err}"));
        for (i, ours) in ours(packet, &VirtioNetHdr::from_bytes(&header))
            .iter()
            .enumerate()
        {
            let theirs = to.read().map(|(_, packet)| packet);
            let agreed = theirs == Some(after_one_hop(ours));
            assert!(
                agreed,
                "case {case}, segment {i} of {gso_size} bytes: {}",
                difference(&sketch, ours, theirs.as_deref())
            );
            segments += 1;
        }
        assert!(
            to.try_read().is_none(),
            "case {case}: the kernel made more segments"
        );
    }
    println!("{CASES} super-packets, {segments} segments");
}

#[test]
fn tcp_over_ipv4_is_split_as_the_kernel_does() {
    the_kernel_agrees(false, true);
}

#[test]
fn tcp_over_ipv6_is_split_as_the_kernel_does() {
    the_kernel_agrees(true, true);
}

#[test]
fn udp_over_ipv4_is_split_as_the_kernel_does() {
    the_kernel_agrees(false, false);
}

#[test]
fn udp_over_ipv6_is_split_as_the_kernel_does() {
    the_kernel_agrees(true, false);
}
