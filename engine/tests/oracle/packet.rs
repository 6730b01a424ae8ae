//! Packets as the tests describe them, and the RFCs' arithmetic done the slow way: nothing here is
//! shared with the engine.
#![allow(
    dead_code,
    reason = "included by several tests, each of which needs a part of it"
)]

/// Small, seeded, good enough (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Any of `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..n.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .collect();
        bytes.truncate(n);
        bytes
    }
}

/// Flags of a TCP header.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const ECE: u8 = 0x40;
    pub(crate) const CWR: u8 = 0x80;
}

const DESTINATION_OPTIONS: u8 = 60;

/// What stands in the checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The right checksum.
    Right,
    /// Another one.
    Wrong,
    /// Zero, which for UDP means "not computed".
    Zero,
    /// The pseudo-header sum: somebody was to add the rest.
    Unfinished,
    /// The right checksum as it is when the kernel finishes an unfinished one: never zero, whatever
    /// the protocol.
    Finished,
}

/// A TCP or UDP packet in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sketch {
    pub(crate) v6: bool,
    pub(crate) tcp: bool,
    /// Last byte of source and destination address.
    pub(crate) hosts: (u8, u8),
    pub(crate) ports: (u16, u16),
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    pub(crate) df: bool,
    pub(crate) flow_label: u32,
    /// Bytes between the IP header and the next: IPv4 options (a multiple of four, 1 is "no
    /// operation") or one IPv6 destination-options header (a multiple of eight; the first two bytes
    /// are filled in, 0 is padding).
    pub(crate) ip_options: Vec<u8>,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// The four bits between data offset and flags.
    pub(crate) reserved: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// TCP options, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) check: Check,
}

impl Sketch {
    /// An ordinary packet with `len` bytes of payload.
    pub(crate) fn new(v6: bool, tcp: bool, len: usize) -> Self {
        let payload = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
        Self {
            v6,
            tcp,
            hosts: (2, 2),
            ports: (40_000, 5201),
            tos: 0,
            ttl: 64,
            id: 1,
            df: true,
            flow_label: 0,
            ip_options: Vec::new(),
            seq: 1000,
            ack: 77,
            reserved: 0,
            flags: flag::ACK,
            window: 500,
            urgent: 0,
            options: Vec::new(),
            payload,
            check: Check::Right,
        }
    }

    pub(crate) fn ip_len(&self) -> usize {
        self.ip_options.len() + if self.v6 { 40 } else { 20 }
    }

    pub(crate) fn l4_len(&self) -> usize {
        if self.tcp { 20 + self.options.len() } else { 8 }
    }

    pub(crate) fn header_len(&self) -> usize {
        self.ip_len() + self.l4_len()
    }

    fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    fn checksum_offset(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    fn addresses(&self) -> Vec<u8> {
        let (a, b) = self.hosts;
        if self.v6 {
            let net =
                |side: u8, host: u8| [0xfd, 0xaa, 0, side, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
            return [net(1, a), net(2, b)].concat();
        }
        vec![10, 91, 1, a, 10, 91, 2, b]
    }

    /// The sum over addresses, protocol and length.
    fn pseudo_header(&self) -> u16 {
        let len = (self.l4_len() + self.payload.len()) as u32;
        let tail = [&[0, self.protocol()][..], &len.to_be_bytes()].concat();
        sum(&[self.addresses(), tail].concat())
    }

    fn ip_header(&self) -> Vec<u8> {
        let len = self.header_len() + self.payload.len();
        if self.v6 {
            let mut bytes = (6 << 28 | u32::from(self.tos) << 20 | self.flow_label)
                .to_be_bytes()
                .to_vec();
            bytes.extend(((len - 40) as u16).to_be_bytes());
            let mut options = self.ip_options.clone();
            let next = match options.first_chunk_mut::<2>() {
                Some(front) => {
                    *front = [self.protocol(), (self.ip_options.len() / 8 - 1) as u8];
                    DESTINATION_OPTIONS
                }
                None => self.protocol(),
            };
            bytes.extend([next, self.ttl]);
            bytes.extend(self.addresses());
            bytes.extend(options);
            return bytes;
        }
        let mut bytes = vec![0x40 | (self.ip_len() / 4) as u8, self.tos];
        bytes.extend((len as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend([
            if self.df { 0x40 } else { 0 },
            0,
            self.ttl,
            self.protocol(),
            0,
            0,
        ]);
        bytes.extend(self.addresses());
        bytes.extend(&self.ip_options);
        let checksum = !sum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn l4_header(&self) -> Vec<u8> {
        let (from, to) = self.ports;
        let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
        if !self.tcp {
            bytes.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            bytes.extend([0, 0]);
            return bytes;
        }
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([((self.l4_len() / 4) as u8) << 4 | self.reserved, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes
    }

    /// The packet as it is sent.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut l4 = [self.l4_header(), self.payload.clone()].concat();
        let pseudo = self.pseudo_header();
        let right = !sum(&[&pseudo.to_be_bytes()[..], &l4].concat());
        let field = match self.check {
            Check::Right if self.tcp => right,
            Check::Right | Check::Finished if right == 0 => 0xffff,
            Check::Right | Check::Finished => right,
            // Not by chance the one wrong checksum that means something.
            Check::Wrong if right ^ 0x0101 == pseudo => right ^ 0x0202,
            Check::Wrong => right ^ 0x0101,
            Check::Zero => 0,
            Check::Unfinished => pseudo,
        };
        let at = self.checksum_offset();
        l4[at..at + 2].copy_from_slice(&field.to_be_bytes());
        [self.ip_header(), l4].concat()
    }

    /// The same packet with something else in its checksum field.
    pub(crate) fn with(&self, check: Check) -> Self {
        Self {
            check,
            ..self.clone()
        }
    }

    /// The virtio header of this packet as a super-packet, or of one whose checksum is unfinished
    /// if `gso_size` is zero.
    pub(crate) fn virtio(&self, gso_size: u16, hdr_len: u16) -> [u8; 10] {
        let kind = match (gso_size, self.tcp, self.v6) {
            (0, ..) => 0,
            (_, true, false) => 1,
            (_, true, true) => 4,
            (_, false, _) => 5,
        };
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&[1, kind]);
        let words = [
            hdr_len,
            gso_size,
            self.ip_len() as u16,
            self.checksum_offset() as u16,
        ];
        for (at, word) in (2..).step_by(2).zip(words) {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// The packets this one stands for, as senders and the kernel cut it.
    pub(crate) fn segments(&self, gso_size: usize) -> Vec<Self> {
        let chunks: Vec<&[u8]> = self.payload.chunks(gso_size).collect();
        let last = chunks.len() - 1;
        let segment = |(i, chunk): (usize, &&[u8])| {
            let mut flags = self.flags;
            if i < last {
                flags &= !(flag::FIN | flag::PSH);
            }
            if i > 0 {
                flags &= !flag::CWR;
            }
            let seq = self.seq.wrapping_add((i * gso_size) as u32);
            Self {
                id: self.id.wrapping_add(i as u16),
                seq,
                flags,
                payload: chunk.to_vec(),
                ..self.clone()
            }
        };
        chunks.iter().enumerate().map(segment).collect()
    }
}

/// RFC 1071 word by word.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Where the transport header begins, and its protocol.
pub(crate) fn transport(packet: &[u8]) -> (usize, u8) {
    if packet[0] >> 4 == 4 {
        return (usize::from(packet[0] & 15) * 4, packet[9]);
    }
    match packet[6] {
        DESTINATION_OPTIONS => (48 + 8 * usize::from(packet[41]), packet[40]),
        protocol => (40, protocol),
    }
}

/// The packet a router passes on.
pub(crate) fn after_one_hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    packet[8] -= 1;
    packet[10..12].fill(0);
    let len = usize::from(packet[0] & 15) * 4;
    let checksum = !sum(&packet[..len]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A super-packet of any kind: family, protocol, flags, options, marks and sizes at random. Returns
/// its segment size too.
pub(crate) fn random_super_packet(
    random: &mut Random,
    payload_max: usize,
    segments_max: usize,
) -> (Sketch, u16) {
    let size_max = random.pick(&[40, 600, 1400, 1400, 8000]).min(payload_max);
    let gso_size = 1 + random.below(size_max);
    let count_max = random.pick(&[3, 10, segments_max]).min(segments_max);
    let count = 1 + random.below(count_max);
    let len = match random.below(4) {
        0 => gso_size * count,
        1 => gso_size * (count - 1) + 1,
        _ => gso_size * (count - 1) + 1 + random.below(gso_size),
    };
    let mut sketch = Sketch::new(random.one_in(2), random.one_in(2), 0);
    sketch.payload = random.bytes(len.min(payload_max));
    randomise_headers(random, &mut sketch);
    (sketch, gso_size as u16)
}

fn randomise_headers(random: &mut Random, sketch: &mut Sketch) {
    sketch.ports = (random.next() as u16 | 1, random.next() as u16 | 1);
    sketch.tos = random.next() as u8;
    sketch.ttl = 2 + random.below(254) as u8;
    sketch.id = random.next() as u16;
    sketch.df = random.one_in(2);
    sketch.flow_label = random.next() as u32 & 0xf_ffff;
    sketch.seq = random.next() as u32;
    sketch.ack = random.next() as u32;
    sketch.flags = random.next() as u8;
    sketch.window = random.next() as u16;
    sketch.urgent = random.next() as u16;
    let options = random.below(11) * 4;
    sketch.options = random.bytes(options);
}
