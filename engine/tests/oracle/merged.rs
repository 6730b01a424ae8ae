//! Our merger, driven like an inbound batch.

use engine::wire::Piece;
use engine::wire::ip::IpInfo;
use engine::wire::merge::{MergeConfig, Merger, TunWrite};

/// Everything on, and nothing but what comes back byte for byte.
pub(crate) const CONFIG: MergeConfig = MergeConfig {
    vnet_header: true,
    tcp: true,
    udp: true,
    max_udp_segments: 128,
    mtu: 1500,
    constant_ids: false,
};

/// A write to the TUN, put together.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) header: [u8; 10],
    pub(crate) packets: usize,
    pub(crate) bytes: Vec<u8>,
}

/// The writes a batch of packets ends in.
pub(crate) fn merged(merger: &mut Merger, train: &[Vec<u8>]) -> Vec<Write> {
    let mut frames = train.to_vec();
    for (slot, packet) in (0..).zip(train) {
        let info = IpInfo::parse(packet).expect("a packet of ours");
        let piece = Piece {
            slot,
            start: 0,
            len: packet.len() as u32,
        };
        merger
            .push(&mut frames, piece, &info, 0)
            .expect("nothing that cannot be carried");
    }
    merger.flush(&mut frames);
    let writes = merger
        .writes()
        .iter()
        .map(|write| put_together(merger, write, &frames))
        .collect();
    merger.clear();
    writes
}

fn put_together(merger: &Merger, write: &TunWrite, frames: &[Vec<u8>]) -> Write {
    let pieces = &merger.pieces()[write.pieces.start as usize..write.pieces.end as usize];
    let bytes = pieces
        .iter()
        .flat_map(|piece| piece.of(&frames[usize::from(piece.slot)]))
        .copied()
        .collect();
    Write {
        header: write.header.to_bytes(),
        packets: usize::from(write.packets),
        bytes,
    }
}
