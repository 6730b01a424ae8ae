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
//! Each way (a hop through a socket) has at most one open run, the newest, so datagrams that go the
//! same way keep their order while others may lie between them. A flow keeps its socket; its
//! congestion mark may change, so the mark is no part of the way.

use crate::wire::Piece;

/// Datagrams in a plan at most; a super-packet of tiny segments fills it and is sent in parts.
pub(crate) const DATAGRAMS_MAX: usize = 4096;
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

    fn is_open_on_the_way_of(&self, key: RunKey) -> bool {
        self.open && self.key.hop == key.hop && self.key.socket == key.socket
    }

    fn takes(&self, key: RunKey, len: u32, segments_max: u32) -> bool {
        self.key.tos == key.tos
            && len <= self.segment
            && self.packets < segments_max
            && self.bytes + len <= RUN_BYTES_MAX
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

    /// Adds a datagram to the open run of its way, or closes that and opens a new one.
    pub(crate) fn push(&mut self, key: RunKey, head: Piece, tail: Piece, segments_max: u16) {
        let len = head.len + tail.len;
        let index = self.datagrams.len() as u32;
        self.datagrams.push(Datagram {
            head,
            tail,
            next: END,
        });
        if let Some(run) = self.open_run(key)
            && run.takes(key, len, segments_max.into())
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
            .find(|run| run.is_open_on_the_way_of(key))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(hop: u32) -> RunKey {
        RunKey {
            hop,
            socket: 0,
            tos: 0,
        }
    }

    /// A datagram that can be told apart by where it starts.
    fn piece(number: u32, len: u32) -> Piece {
        Piece {
            slot: 0,
            start: number,
            len,
        }
    }

    fn planned(datagrams: &[(u32, u32)], segments_max: u16) -> SendPlan {
        let mut plan = SendPlan::new();
        for (number, &(hop, len)) in datagrams.iter().enumerate() {
            plan.push(
                key(hop),
                piece(number as u32, len),
                Piece::default(),
                segments_max,
            );
        }
        plan
    }

    fn shapes(plan: &SendPlan) -> Vec<(u32, u32, u32)> {
        plan.runs()
            .iter()
            .map(|run| (run.key.hop, run.packets, run.segment))
            .collect()
    }

    #[test]
    fn equal_sizes_to_one_place_share_a_run() {
        assert_eq!(shapes(&planned(&[(1, 100); 5], 64)), [(1, 5, 100)]);
    }

    #[test]
    fn run_ends_when_a_shorter_packet_follows() {
        let plan = planned(&[(1, 100), (1, 60), (1, 60)], 64);
        assert_eq!(shapes(&plan), [(1, 2, 100), (1, 1, 60)]);
    }

    #[test]
    fn a_longer_packet_begins_a_new_run() {
        let plan = planned(&[(1, 60), (1, 100), (1, 60)], 64);
        assert_eq!(shapes(&plan), [(1, 1, 60), (1, 2, 100)]);
    }

    #[test]
    fn interleaved_places_do_not_break_each_others_runs() {
        let plan = planned(&[(1, 100), (2, 100), (1, 100), (2, 100)], 64);
        assert_eq!(shapes(&plan), [(1, 2, 100), (2, 2, 100)]);
    }

    #[test]
    fn a_changed_mark_ends_the_run_so_that_a_flow_keeps_its_order() {
        let mut plan = SendPlan::new();
        for (number, tos) in [0, 2, 0].into_iter().enumerate() {
            let key = RunKey { tos, ..key(1) };
            plan.push(key, piece(number as u32, 100), Piece::default(), 64);
        }
        let marks: Vec<_> = plan.runs().iter().map(|run| run.key.tos).collect();
        assert_eq!(marks, [0, 2, 0]);
    }

    #[test]
    fn a_run_holds_no_more_datagrams_than_the_kernel_takes() {
        assert_eq!(
            shapes(&planned(&[(1, 10); 130], 64)),
            [(1, 64, 10), (1, 64, 10), (1, 2, 10)]
        );
        assert!(
            planned(&[(1, 10); 3], 1)
                .runs()
                .iter()
                .all(|run| run.gso_size() == 0)
        );
    }

    #[test]
    fn a_run_stays_below_what_a_device_takes_unsegmented() {
        let plan = planned(&[(1, 1472); 46], 128);
        assert_eq!(shapes(&plan), [(1, 44, 1472), (1, 2, 1472)]);
    }

    #[test]
    fn header_room_is_given_out_once_until_the_plan_is_cleared() {
        let mut plan = SendPlan::new();
        let (first, bytes) = plan.header(40);
        bytes.fill(7);
        let (second, _) = plan.header(40);
        assert_eq!(
            (first.start, second.start, plan.headers_used()),
            (0, 40, 80)
        );
        assert_eq!(first.of(plan.headers()), [7; 40]);
        while plan.has_room(1000) {
            plan.header(1000);
        }
        plan.clear();
        assert!(plan.has_room(1000) && plan.headers_used() == 0);
    }

    proptest! {
        #[test]
        fn every_datagram_is_sent_once_in_order_and_by_the_rules_of_segmentation(
            datagrams in prop::collection::vec((0u32..4, prop::sample::select(vec![60u32, 100, 1428])), 1..300),
            segments_max in prop::sample::select(vec![1u16, 64, 128]),
        ) {
            let plan = planned(&datagrams, segments_max);
            let mut seen = vec![Vec::new(); 4];
            for run in plan.runs() {
                let lens: Vec<_> = plan.datagrams(run).map(|one| one.head.len + one.tail.len).collect();
                let (last, rest) = lens.split_last().expect("no run is empty");
                prop_assert!(rest.iter().all(|&len| len == run.segment) && *last <= run.segment);
                prop_assert!(lens.len() <= usize::from(segments_max));
                prop_assert_eq!(lens.iter().sum::<u32>(), run.bytes);
                prop_assert!(run.bytes <= RUN_BYTES_MAX);
                seen[run.key.hop as usize].extend(plan.datagrams(run).map(|one| one.head.start));
            }
            for hop in 0..4 {
                let sent = datagrams.iter().enumerate().filter(|(_, one)| one.0 == hop);
                let expected: Vec<_> = sent.map(|(number, _)| number as u32).collect();
                prop_assert_eq!(&seen[hop as usize], &expected);
            }
        }
    }
}
