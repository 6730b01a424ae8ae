//! What RFCs and the kernel say about packets, in the plainest terms. Shares nothing with the engine.

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// What the IP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) v6: bool,
    pub(crate) header_len: usize,
    pub(crate) total_len: usize,
    pub(crate) protocol: u8,
    pub(crate) is_fragment: bool,
    pub(crate) is_later_fragment: bool,
}

/// A whole TCP or UDP packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) ip: Ip,
    pub(crate) tcp: bool,
    pub(crate) payload: usize,
}

/// RFC 1071: words added up, carries put back. Plain enough for the compiler to make it quick.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let (words, odd) = bytes.as_chunks::<2>();
    let odd = odd.first().map_or(0, |byte| u64::from(*byte) << 8);
    let add = |sum: u64, word: &[u8; 2]| sum.wrapping_add(u16::from_be_bytes(*word).into());
    let mut sum = words.iter().fold(odd, add);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The word to add to data with checksum `from` for its checksum to become `to`.
pub(crate) fn difference(from: u16, to: u16) -> u16 {
    sum(&[from.to_be_bytes(), (!to).to_be_bytes()].concat())
}

impl Ip {
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &[u8]) -> Option<Self> {
        let header_len = usize::from(bytes[0] & 15) * 4;
        if bytes.len() < 20 || header_len < 20 || header_len > bytes.len() {
            return None;
        }
        let (total_len, fragment) = (usize::from(word(bytes, 2)), word(bytes, 6));
        let fits = header_len <= total_len && total_len <= bytes.len();
        fits.then_some(Self {
            v6: false,
            header_len,
            total_len,
            protocol: bytes[9],
            is_fragment: fragment & 0x3fff != 0,
            is_later_fragment: fragment & 0x1fff != 0,
        })
    }

    fn v6(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 40 || 40 + usize::from(word(bytes, 4)) > bytes.len() {
            return None;
        }
        let mut ip = Self {
            v6: true,
            header_len: 40,
            total_len: 40 + usize::from(word(bytes, 4)),
            protocol: bytes[6],
            is_fragment: false,
            is_later_fragment: false,
        };
        for _ in 0..8 {
            ip = ip.behind_extension(bytes).unwrap_or(ip);
        }
        Some(ip)
    }

    /// The same packet seen from behind its next extension header, if there is one and it is whole.
    fn behind_extension(&self, bytes: &[u8]) -> Option<Self> {
        let is_fragment = self.protocol == 44;
        if self.is_later_fragment || !(is_fragment || [0, 43, 60].contains(&self.protocol)) {
            return None;
        }
        let header = bytes[..self.total_len].get(self.header_len..)?;
        let len = if is_fragment {
            8
        } else {
            8 + 8 * usize::from(*header.get(1)?)
        };
        let header = header.get(..len)?;
        let mut behind = Self {
            protocol: header[0],
            header_len: self.header_len + len,
            ..*self
        };
        if is_fragment {
            behind.is_fragment = word(header, 2) & 0xfff9 != 0;
            behind.is_later_fragment = word(header, 2) & 0xfff8 != 0;
        }
        Some(behind)
    }

    pub(crate) fn addresses<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        if self.v6 {
            &packet[8..40]
        } else {
            &packet[12..20]
        }
    }

    /// Whether the header's own checksum is right.
    pub(crate) fn is_right(&self, packet: &[u8]) -> bool {
        self.v6 || sum(&packet[..self.header_len]) == 0xffff
    }

    /// The pseudo header of a transport protocol over `len` bytes.
    pub(crate) fn pseudo_header(&self, packet: &[u8], protocol: u8, len: usize) -> Vec<u8> {
        let tail = [&[0, protocol][..], &(len as u32).to_be_bytes()].concat();
        [self.addresses(packet), &tail].concat()
    }
}

impl Located {
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        let ip = Ip::of(packet)?;
        let header = packet[..ip.total_len].get(ip.header_len..)?;
        let len = match ip.protocol {
            6 => usize::from(*header.get(12)? >> 4) * 4,
            17 => 8,
            _ => return None,
        };
        let tcp = ip.protocol == 6;
        let whole = len >= if tcp { 20 } else { 8 } && len <= header.len() && !ip.is_fragment;
        whole.then_some(Self {
            ip,
            tcp,
            payload: ip.header_len + len,
        })
    }

    pub(crate) fn checksum_at(&self) -> usize {
        self.ip.header_len + if self.tcp { 16 } else { 6 }
    }

    pub(crate) fn field(&self, packet: &[u8]) -> u16 {
        word(packet, self.checksum_at())
    }

    fn pseudo_header(&self, packet: &[u8]) -> Vec<u8> {
        let len = self.ip.total_len - self.ip.header_len;
        self.ip
            .pseudo_header(packet, if self.tcp { 6 } else { 17 }, len)
    }

    /// Whether the checksum field holds what is left when only the pseudo header was summed.
    pub(crate) fn is_unfinished(&self, packet: &[u8]) -> bool {
        self.field(packet) == self.pseudo_sum(packet)
    }

    /// The checksum field while only the pseudo header was summed.
    pub(crate) fn pseudo_sum(&self, packet: &[u8]) -> u16 {
        sum(&self.pseudo_header(packet))
    }

    /// Whether the checksum verifies.
    pub(crate) fn is_right(&self, packet: &[u8]) -> bool {
        let covered = &packet[self.ip.header_len..self.ip.total_len];
        sum(&[&self.pseudo_header(packet), covered].concat()) == 0xffff
    }

    /// The right checksum.
    pub(crate) fn checksum(&self, packet: &[u8]) -> u16 {
        let mut packet = packet.to_vec();
        put(&mut packet, self.checksum_at(), 0);
        let covered = &packet[self.ip.header_len..self.ip.total_len];
        let checksum = !sum(&[&self.pseudo_header(&packet), covered].concat());
        if checksum == 0 && !self.tcp {
            0xffff
        } else {
            checksum
        }
    }

    /// The packet with the right checksum, without padding.
    pub(crate) fn finished(&self, packet: &[u8]) -> Vec<u8> {
        let mut finished = packet[..self.ip.total_len].to_vec();
        put(&mut finished, self.checksum_at(), self.checksum(packet));
        finished
    }

    /// The packets the kernel would cut this one into.
    pub(crate) fn segments(&self, packet: &[u8], size: usize) -> Vec<Vec<u8>> {
        let payload = &packet[self.payload..self.ip.total_len];
        let mut chunks: Vec<_> = payload.chunks(size).collect();
        if chunks.is_empty() {
            chunks.push(payload);
        }
        let last = chunks.len() - 1;
        let segment = |(i, chunk): (usize, &&[u8])| {
            let mut segment = [&packet[..self.payload], chunk].concat();
            self.number(&mut segment, i, i * size, i == last);
            repair(&mut segment);
            segment
        };
        chunks.iter().enumerate().map(segment).collect()
    }

    /// The fields in which segments differ, apart from checksums.
    fn number(&self, segment: &mut [u8], i: usize, offset: usize, is_last: bool) {
        let (len, l4) = (segment.len(), self.ip.header_len);
        if self.ip.v6 {
            put(segment, 4, (len - 40) as u16);
        } else {
            put(segment, 2, len as u16);
            put(segment, 4, word(segment, 4).wrapping_add(i as u16));
        }
        if !self.tcp {
            return put(segment, l4 + 4, (len - l4) as u16);
        }
        let seq = u32::from(word(segment, l4 + 4)) << 16 | u32::from(word(segment, l4 + 6));
        segment[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add(offset as u32).to_be_bytes());
        if !is_last {
            segment[l4 + 13] &= !FIN_PSH;
        }
        if i > 0 {
            segment[l4 + 13] &= !CWR;
        }
    }
}

/// Makes all checksums of a packet right that can be found.
pub(crate) fn repair(packet: &mut [u8]) {
    let Some(ip) = Ip::of(packet) else {
        return;
    };
    if !ip.v6 {
        put(packet, 10, 0);
        let checksum = !sum(&packet[..ip.header_len]);
        put(packet, 10, checksum);
    }
    if let Some(located) = Located::of(packet) {
        let checksum = located.checksum(packet);
        put(packet, located.checksum_at(), checksum);
    }
}
