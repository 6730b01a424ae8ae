//! The ten bytes that precede every packet of a TUN opened with IFF_VNET_HDR.

/// What the kernel and we tell each other about a packet's checksum and segmentation (native byte
/// order on the wire).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioNetHdr {
    /// [`Self::NEEDS_CSUM`], [`Self::DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` types, perhaps with [`Self::ECN`] on top; see [`Self::gso`].
    pub gso_type: u8,
    /// A hint only: for forwarded packets the kernel fills in the linear length, not the header
    /// length.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Where checksumming begins.
    pub csum_start: u16,
    /// Where the checksum goes, counted from `csum_start`.
    pub csum_offset: u16,
}

impl VirtioNetHdr {
    /// Bytes on the wire.
    pub const LEN: usize = 10;
    /// Flag: the checksum field holds the folded pseudo-header sum; the rest is to be added.
    pub const NEEDS_CSUM: u8 = 1;
    /// Flag: somebody has verified the checksum (on reads from the TUN only; ignored on writes).
    pub const DATA_VALID: u8 = 2;
    /// Type: an ordinary packet.
    pub const GSO_NONE: u8 = 0;
    /// Type: TCP over IPv4 to be segmented.
    pub const GSO_TCPV4: u8 = 1;
    /// Type: TCP over IPv6 to be segmented.
    pub const GSO_TCPV6: u8 = 4;
    /// Type: UDP to be cut into datagrams of equal size, either family.
    pub const GSO_UDP_L4: u8 = 5;
    /// Bit on top of a TCP type: the packet carries CWR.
    pub const ECN: u8 = 0x80;

    /// Reads the header as the kernel wrote it.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    /// The header as the kernel reads it.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let [h, i] = self.hdr_len.to_ne_bytes();
        let [g, s] = self.gso_size.to_ne_bytes();
        let [c, d] = self.csum_start.to_ne_bytes();
        let [o, p] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h, i, g, s, c, d, o, p]
    }

    /// The segmentation type without the ECN bit.
    pub fn gso(&self) -> u8 {
        self.gso_type & !Self::ECN
    }

    /// Whether the checksum still has to be finished.
    pub fn needs_csum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_to_bytes_and_back() {
        let header = VirtioNetHdr {
            flags: 1,
            gso_type: 0x81,
            hdr_len: 0x1234,
            gso_size: 1448,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(VirtioNetHdr::from_bytes(&header.to_bytes()), header);
        assert_eq!(header.to_bytes()[4..6], 1448u16.to_ne_bytes());
    }

    #[test]
    fn the_ecn_bit_does_not_hide_the_type() {
        let header = VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_TCPV6 | VirtioNetHdr::ECN,
            ..Default::default()
        };
        assert_eq!(header.gso(), VirtioNetHdr::GSO_TCPV6);
    }
}
