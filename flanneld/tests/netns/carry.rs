//! Puts inner packets into one container's device and takes out what reaches the other's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use benches::frames::FramePort;
use benches::lab::Subnet;
use benches::{Lab, Namespace, Side};

use super::inner::{ICMP, IPV4_HEADER, Inner, Ip, TCP, UDP, checksum};

pub(crate) const ETHERNET: usize = 14;
/// An address in the receiver's subnet that nobody answers for, so only the test hears the packets.
const SILENT_HOST: u32 = 9;
const BURST_BYTES: usize = 64 << 10;
const BURST_PACKETS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(150);

/// The way from one container's device to the other's.
pub(crate) struct Crossing {
    port: FramePort,
    far: FramePort,
    ethernet: Vec<u8>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

impl Crossing {
    /// Opens both devices; what arrives is finished and cut to size by the kernel.
    pub(crate) fn open(lab: &Lab, subnets: [Subnet; 2], from: Side) -> Self {
        let [near, far] = [from, from.other()];
        let destination = subnets[far as usize].host(SILENT_HOST);
        let container = mac(lab.container(far), "eth0");
        let node = lab.node(far);
        node.ip(&format!(
            "neigh replace {destination} lladdr {container} dev cni0 nud permanent"
        ))
        .unwrap();
        node.run("ethtool -K pod0 tx off tso off gso off").unwrap();
        let ethernet = [
            octets(&mac(lab.node(near), "cni0")),
            octets(&mac(lab.container(near), "eth0")),
        ]
        .concat();
        Self {
            port: FramePort::open_with_virtio_header(lab.container(near), "eth0").unwrap(),
            far: FramePort::open(lab.container(far), "eth0").unwrap(),
            ethernet: [ethernet, vec![0x08, 0x00]].concat(),
            source: subnets[near as usize].container(),
            destination,
        }
    }

    /// A header for a packet of this crossing.
    pub(crate) fn ip(&self, protocol: u8) -> Ip {
        Ip::new(self.source, self.destination, protocol)
    }

    /// Sends all packets and returns those that arrive, in order of arrival.
    ///
    /// Never more than a burst is under way: a queue that overflows is not what is tested.
    pub(crate) fn carry(&mut self, packets: &[Inner]) -> Vec<Vec<u8>> {
        let (mut arrived, mut expected) = (Vec::new(), 0);
        for burst in bursts(packets) {
            burst.iter().for_each(|packet| self.send(packet));
            expected += burst.iter().map(Inner::segments).sum::<usize>();
            if !self.collect(expected, &mut arrived) {
                return arrived;
            }
        }
        // Whatever comes now is too much, and must be seen.
        arrived.extend(std::iter::from_fn(|| self.next(Instant::now() + QUIET)));
        arrived
    }

    /// Waits until so many have arrived in all; false when some did not.
    fn collect(&mut self, expected: usize, arrived: &mut Vec<Vec<u8>>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while arrived.len() < expected {
            match self.next(deadline) {
                Some(packet) => arrived.push(packet),
                None => return false,
            }
        }
        true
    }

    pub(crate) fn send(&self, packet: &Inner) {
        let frame = [&packet.virtio[..], &self.ethernet, &packet.bytes].concat();
        self.port
            .send(&frame)
            .unwrap_or_else(|error| panic!("{} bytes: {error}", packet.bytes.len()));
    }

    /// The next packet for the silent host.
    fn next(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        loop {
            let frame = self.far.receive(deadline).unwrap()?;
            let packet = frame.get(ETHERNET..)?;
            if packet.get(16..20) == Some(&self.destination.octets()) {
                return Some(without_padding(packet));
            }
        }
    }
}

/// Cuts what the smallest Ethernet frame adds.
fn without_padding(packet: &[u8]) -> Vec<u8> {
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    packet[..total.clamp(IPV4_HEADER, packet.len())].to_vec()
}

fn bursts(packets: &[Inner]) -> Vec<&[Inner]> {
    let mut bursts = Vec::new();
    let mut rest = packets;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(BURST_PACKETS).take_while(|packet| {
            bytes += packet.bytes.len();
            bytes <= BURST_BYTES
        });
        let (burst, left) = rest.split_at(fits.count().max(1));
        bursts.push(burst);
        rest = left;
    }
    bursts
}

/// Packets by flow, in order, with TTL and header checksum cleared once the latter was found right.
pub(crate) fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for packet in packets {
        let header_len = usize::from(packet[0] & 15) * 4;
        assert_eq!(
            checksum(&packet[..header_len]),
            0,
            "header checksum of {packet:02x?}"
        );
        let mut same_on_the_way = packet.clone();
        same_on_the_way[8] = 0;
        same_on_the_way[10..12].fill(0);
        flows
            .entry(flow(packet, header_len))
            .or_default()
            .push(same_on_the_way);
    }
    flows
}

/// What decides whether two packets must stay in order: protocol, being a fragment, ports.
fn flow(packet: &[u8], header_len: usize) -> Vec<u8> {
    let fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
    let mut key = vec![packet[9], u8::from(fragment)];
    if !fragment && [TCP, UDP].contains(&packet[9]) {
        key.extend(&packet[header_len..][..4]);
    }
    key
}

/// Fails with the first difference between two sets of packets.
pub(crate) fn assert_same(got: &[Vec<u8>], expected: &[Vec<u8>], what: &str) {
    let (got, expected) = (by_flow(got), by_flow(expected));
    for (flow, wanted) in &expected {
        let empty = Vec::new();
        let have = got.get(flow).unwrap_or(&empty);
        for (place, (have, wanted)) in have.iter().zip(wanted).enumerate() {
            let describe = |packet: &[u8]| {
                format!(
                    "{} bytes {:02x?}",
                    packet.len(),
                    &packet[..packet.len().min(64)]
                )
            };
            let (left, right) = (describe(have), describe(wanted));
            let later = got[flow].iter().position(|packet| packet == wanted);
            assert!(
                have == wanted,
                "{what}: flow {flow:02x?}, packet {place}:\n got {left}\nnot {right},\n which came at {later:?}"
            );
        }
        assert_eq!(
            have.len(),
            wanted.len(),
            "{what}: number of packets of flow {flow:02x?}"
        );
    }
    let surplus = got.keys().find(|flow| !expected.contains_key(*flow));
    assert_eq!(surplus, None, "{what}: a flow nobody sent");
}

/// The ICMP messages that reach `container` within a short while after `provoke`.
pub(crate) fn icmp_after(container: &Namespace, provoke: impl FnOnce()) -> Vec<Vec<u8>> {
    let mut port = FramePort::open(container, "eth0").unwrap();
    provoke();
    let mut messages = Vec::new();
    while let Some(frame) = port.receive(Instant::now() + QUIET * 2).unwrap() {
        if frame.len() > ETHERNET + IPV4_HEADER + 8
            && frame[12..14] == [8, 0]
            && frame[ETHERNET + 9] == ICMP
        {
            messages.push(frame[ETHERNET..].to_vec());
        }
    }
    messages
}

/// The Ethernet address of a device.
pub(crate) fn mac(namespace: &Namespace, device: &str) -> String {
    let said = namespace
        .run(&format!("ip -oneline link show dev {device}"))
        .unwrap();
    let mut words = said
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    words
        .nth(1)
        .expect("an Ethernet device has an address")
        .to_owned()
}

/// The bytes of an Ethernet address.
pub(crate) fn octets(mac: &str) -> Vec<u8> {
    mac.split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect()
}
