//! What one batch will send: datagrams by reference, grouped into runs.
//!
//! Words, smallest to largest: a **datagram** is one outer UDP payload, a header piece and a
//! payload piece; a **run** is datagrams of one size to one place (the last may be shorter), which
//! leave as one message cut by UDP_SEGMENT; a **plan** is all runs of a batch.
//!
//! ```text
//!   frames   [ super-packet payload .................. ]   [ small ]   [ small ]
//!               ^tail 0      ^tail 1      ^tail 2            ^head 3     ^head 4
//!   headers  [ head 0 | head 1 | head 2 ]
//!   runs     { 0 -> 1 -> 2 }   { 3 -> 4 }
//! ```
//! Each destination has at most one open run, the newest, so datagrams to one place keep their
//! order while those to other places may lie between them.

use crate::wire::Piece;

/// Datagrams in a plan at most; a super-packet of tiny segments fills it and is sent in parts.
const DATAGRAMS_MAX: usize = 4096;
/// Room for the headers of split packets: enough for 64 KiB of small segments.
const HEADER_BYTES: usize = 256 << 10;
/// Bytes in a run at most: with its headers it must stay below the 65,536 bytes that a device
/// takes unsegmented, else the kernel cuts it up before it reaches the device.
const RUN_BYTES_MAX: u32 = 65_000;
/// How many recent runs are searched for an open one.
const OPEN_WINDOW: usize = 32;

const END: u32 = u32::MAX;

/// One outer UDP payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    pub(crate) head: Piece,
    /// Empty where the head is the whole datagram.
    pub(crate) tail: Piece,
    next: u32,
}

/// What datagrams must share to leave in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunKey {
    pub(crate) hop: u32,
    pub(crate) socket: u16,
    pub(crate) tos: u8,
}

/// Datagrams that leave in one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) key: RunKey,
    /// Size of every datagram but the last, which may be shorter.
    pub(crate) segment: u32,
    pub(crate) bytes: u32,
    pub(crate) packets: u32,
    first: u32,
    last: u32,
    open: bool,
}

impl Run {
    /// The size to announce as UDP_SEGMENT: none for a lone datagram.
    pub(crate) fn gso_size(&self) -> u16 {
        if self.packets > 1 {
            self.segment as u16
        } else {
            0
        }
    }

    fn takes(&self, len: u32, segments_max: u32) -> bool {
        len <= self.segment && self.packets < segments_max && self.bytes + len <= RUN_BYTES_MAX
    }
}

/// All runs of a batch and the headers written for them.
#[derive(Debug)]
pub(crate) struct SendPlan {
    datagrams: Vec<Datagram>,
    runs: Vec<Run>,
    headers: Box<[u8]>,
    headers_used: usize,
}

impl SendPlan {
    pub(crate) fn new() -> Self {
        Self {
            datagrams: Vec::with_capacity(DATAGRAMS_MAX),
            runs: Vec::with_capacity(DATAGRAMS_MAX),
            headers: vec![0; HEADER_BYTES].into_boxed_slice(),
            headers_used: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.datagrams.clear();
        self.runs.clear();
        self.headers_used = 0;
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// How many bytes of headers were written since the plan was cleared.
    pub(crate) fn headers_used(&self) -> usize {
        self.headers_used
    }

    /// Whether one more datagram with a header of `header` bytes fits.
    pub(crate) fn has_room(&self, header: usize) -> bool {
        self.datagrams.len() < DATAGRAMS_MAX && self.headers_used + header <= HEADER_BYTES
    }

    /// Takes `len` bytes of header room; the caller checked `has_room`.
    pub(crate) fn header(&mut self, len: usize) -> (Piece, &mut [u8]) {
        let start = self.headers_used;
        self.headers_used += len;
        let piece = Piece {
            slot: Piece::HEADERS,
            start: start as u32,
            len: len as u32,
        };
        (piece, &mut self.headers[start..start + len])
    }

    /// Adds a datagram to the open run of its destination, or opens a new one.
    pub(crate) fn push(&mut self, key: RunKey, head: Piece, tail: Piece, segments_max: u16) {
        let len = head.len + tail.len;
        let index = self.datagrams.len() as u32;
        self.datagrams.push(Datagram {
            head,
            tail,
            next: END,
        });
        if let Some(run) = self.open_run(key)
            && run.takes(len, segments_max.into())
        {
            run.bytes += len;
            run.packets += 1;
            run.open = len == run.segment;
            let last = std::mem::replace(&mut run.last, index);
            self.datagrams[last as usize].next = index;
            return;
        }
        self.close(key);
        let run = Run {
            key,
            segment: len,
            bytes: len,
            packets: 1,
            first: index,
            last: index,
            open: true,
        };
        self.runs.push(run);
    }

    fn open_run(&mut self, key: RunKey) -> Option<&mut Run> {
        self.runs
            .iter_mut()
            .rev()
            .take(OPEN_WINDOW)
            .find(|run| run.open && run.key == key)
    }

    fn close(&mut self, key: RunKey) {
        if let Some(run) = self.open_run(key) {
            run.open = false;
        }
    }

    /// The datagrams of a run, in order.
    pub(crate) fn datagrams(&self, run: &Run) -> impl Iterator<Item = &Datagram> {
        let mut next = run.first;
        std::iter::from_fn(move || {
            let datagram = self.datagrams.get(next as usize)?;
            next = datagram.next;
            Some(datagram)
        })
    }
}
