//! The list of writes a batch ends in, and the pieces they consist of.

use crate::wire::Piece;
use crate::wire::split::Splitter;
use crate::wire::virtio::VirtioNetHdr;
use std::ops::Range;

/// Writes of a batch; room for more is made once and kept.
const WRITES_EXPECTED: usize = 8192;
const HEADER_BYTES_EXPECTED: usize = 16 * 1024;

/// One write to the TUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunWrite {
    /// The virtio header in front of it, where the TUN takes one.
    pub header: VirtioNetHdr,
    /// Inner packets it stands for.
    pub packets: u16,
    /// Length without the virtio header.
    pub bytes: u32,
    /// Its bytes: these of the merger's pieces, in order, none empty.
    pub pieces: Range<u32>,
}

#[derive(Debug)]
pub(super) struct Writes {
    pub(super) list: Vec<TunWrite>,
    pub(super) pieces: Vec<Piece>,
    pub(super) headers: Vec<u8>,
}

impl Writes {
    pub(super) fn new() -> Self {
        Self {
            list: Vec::with_capacity(WRITES_EXPECTED),
            pieces: Vec::with_capacity(2 * WRITES_EXPECTED),
            headers: Vec::with_capacity(HEADER_BYTES_EXPECTED),
        }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.pieces.clear();
        self.headers.clear();
    }

    /// A write that stands for `packets` packets and begins with `first`.
    pub(super) fn push(&mut self, header: VirtioNetHdr, packets: usize, first: Piece) {
        let (packets, at) = (packets as u16, self.pieces.len() as u32);
        self.pieces.push(first);
        self.list.push(TunWrite {
            header,
            packets,
            bytes: first.len,
            pieces: at..at + 1,
        });
    }

    /// Makes the last write longer.
    pub(super) fn extend(&mut self, pieces: &[Piece]) {
        self.pieces.extend_from_slice(pieces);
        if let Some(write) = self.list.last_mut() {
            write.bytes += pieces.iter().map(|piece| piece.len).sum::<u32>();
            write.pieces.end = self.pieces.len() as u32;
        }
    }

    /// One write per segment: headers into the slab, payload by reference. `packet` is what `piece`
    /// names.
    pub(super) fn push_segments(&mut self, packet: &[u8], piece: Piece, splitter: &Splitter) {
        let len = splitter.header_len();
        for i in 0..splitter.segments() {
            let at = self.headers.len();
            self.headers.resize(at + len, 0);
            let payload = splitter.write_header(packet, i, &mut self.headers[at..]);
            self.push(
                VirtioNetHdr::default(),
                1,
                Piece {
                    slot: Piece::HEADERS,
                    start: at as u32,
                    len: len as u32,
                },
            );
            self.extend(&[Piece {
                start: piece.start + payload.start as u32,
                len: payload.len() as u32,
                ..piece
            }]);
        }
    }
}
