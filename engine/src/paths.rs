//! How large a packet may be on the way to each peer: what was configured, and what the kernel has
//! learned.
//!
//! The kernel is asked about a path once a second, and when it has refused a run, and only while
//! larger packets go there; so a path that became narrow slows down nobody else, and one that
//! became wide again is used.
//! What was learned is a worker's own and lasts as long as the table it was learned for.

use std::time::Duration;

use crate::io::underlay::Underlay;
use crate::table::{Hop, SubnetTable};

/// Packets up to this length fit every path.
const SMALL: usize = 500;

/// The paths to all peers of one table.
#[derive(Debug)]
pub(crate) struct Paths {
    /// The tunnel's MTU.
    mtu: u16,
    /// Whose they are.
    worker: usize,
    table: u64,
    second: u64,
    /// What was learned in an earlier round is asked again; counted from one on.
    round: u32,
    paths: Vec<Path>,
}

/// Lengths of inner packets to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// No larger one is carried unless it may be fragmented.
    pub(crate) limit: u16,
    /// No larger one gets there in one piece.
    pub(crate) whole: u16,
    /// In which round.
    asked: u32,
}

impl Paths {
    pub(crate) fn new(mtu: u16) -> Self {
        Self {
            mtu,
            worker: 0,
            table: 0,
            second: 0,
            round: 1,
            paths: Vec::new(),
        }
    }

    /// Begins a batch of this worker's that uses this table, at this time.
    pub(crate) fn start(&mut self, table: &SubnetTable, worker: usize, now: Duration) {
        self.worker = worker;
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.doubt();
        }
        if self.table != table.number() {
            self.table = table.number();
            let mtu = self.mtu;
            let believed = |hop: &Hop| Path::new(mtu, configured(hop, mtu));
            self.paths.clear();
            self.paths.extend(table.hops().iter().map(believed));
        }
    }

    /// What was learned may be wrong.
    pub(crate) fn doubt(&mut self) {
        self.round = self.round.wrapping_add(1).max(1);
    }

    /// The path to the peer behind a hop, for a packet of this length before it is cut up.
    pub(crate) fn to(
        &mut self,
        index: u32,
        len: usize,
        table: &SubnetTable,
        underlay: &Underlay,
    ) -> Path {
        if len > SMALL && self.paths[index as usize].asked != self.round {
            let hop = table.hop(index);
            let known = configured(hop, self.mtu).min(whole(hop, underlay));
            let path = &mut self.paths[index as usize];
            (path.asked, path.whole) = (self.round, known);
            hop.traffic.learned(self.worker, known);
        }
        self.paths[index as usize]
    }
}

impl Path {
    fn new(limit: u16, whole: u16) -> Self {
        Self {
            limit,
            whole,
            asked: 0,
        }
    }
}

/// What a hop takes whole, as far as is known before the kernel is asked.
fn configured(hop: &Hop, mtu: u16) -> u16 {
    hop.peer.mtu.map_or(mtu, |known| mtu.min(known))
}

/// The longest inner packet that the kernel believes to get there whole.
fn whole(hop: &Hop, underlay: &Underlay) -> u16 {
    let payload = underlay.path_payload(&hop.peer);
    let inner = payload.map(|payload| payload.saturating_sub(hop.overhead()));
    inner
        .and_then(|inner| u16::try_from(inner).ok())
        .unwrap_or(u16::MAX)
}
