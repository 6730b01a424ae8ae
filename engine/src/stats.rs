//! Counters: one set per worker, written by that worker alone, summed only when somebody asks.
//!
//! The law they obey, exactly, once the engine has stopped or is quiet:
//! `from_tun + from_underlay + created = to_tun + to_underlay + all drops`, in inner packets.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::examples::{Example, Slot};
use crate::recent::{Recent, Watch};

/// Declares an enum whose variants count something, with the name operators see.
macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $name { $($(#[doc = $doc])* $variant,)* }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name operators see.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it counts, in words for operators.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii_start(),)* }
            }
        }
    };
}

counted! {
    /// Why a packet was not carried.
    DropReason {
        /// Outbound: not an IP packet, or its lengths contradict each other.
        OutMalformed = "out_malformed",
        /// Outbound: the virtio header describes no packet we could split or finish.
        OutOffload = "out_offload",
        /// Outbound: nobody owns the destination.
        OutNoRoute = "out_no_route",
        /// Outbound: multicast, broadcast and link-local stay on the host.
        OutNotUnicast = "out_not_unicast",
        /// Outbound: hop limit used up.
        OutTtl = "out_ttl_exceeded",
        /// Outbound: larger than the path takes, and must not be fragmented.
        OutTooBig = "out_too_big",
        /// Outbound: no socket of the peer's address family.
        OutNoSocket = "out_no_socket",
        /// Outbound: the socket's send buffer stayed full.
        OutBufferFull = "out_buffer_full",
        /// Outbound: the kernel refused the datagram.
        OutRefused = "out_refused",
        /// Inbound: the outer source is no current peer.
        InNotPeer = "in_not_a_peer",
        /// Inbound: taken off the device, and not a datagram the kernel would have handed on.
        InOuter = "in_outer_headers",
        /// Inbound: arrived faster than it was taken, where datagrams are taken off the device.
        InShortcutFull = "in_shortcut_full",
        /// Inbound: the datagram was longer than any packet we carry.
        InTruncated = "in_truncated",
        /// Inbound: shorter than a VXLAN header and a packet.
        InVxlanShort = "in_vxlan_short",
        /// Inbound: VXLAN flags or reserved bits that are not the plain kind.
        InVxlanFlags = "in_vxlan_flags",
        /// Inbound: another network's VXLAN identifier.
        InVxlanVni = "in_vxlan_vni",
        /// Inbound: Ethernet addresses that are not from a peer to us.
        InVxlanMac = "in_vxlan_mac",
        /// Inbound: an Ethernet payload that is not IP.
        InVxlanType = "in_vxlan_ethertype",
        /// Inbound: not an IP packet, or its lengths contradict each other.
        InMalformed = "in_malformed",
        /// Inbound: the inner IPv4 header checksum is wrong.
        InHeaderChecksum = "in_header_checksum",
        /// Inbound: the inner destination is not in our subnet.
        InNotOurs = "in_not_ours",
        /// Inbound: an inner source that no peer may use.
        InForbiddenSource = "in_forbidden_source",
        /// Inbound: an inner source that is not in a subnet of the peer that sent it, where that is
        /// asked for.
        InForeignSource = "in_foreign_source",
        /// Inbound: hop limit already zero.
        InTtl = "in_ttl_exceeded",
        /// Inbound: congestion was marked on a packet that does not understand the mark.
        InEcn = "in_ecn_mismatch",
        /// Inbound: an unsegmented datagram whose boundaries are lost.
        InOversize = "in_oversize",
        /// Inbound: the TUN device refused the packet.
        InTunRefused = "in_tun_refused",
    }
}

counted! {
    /// What passed, in inner packets or bytes, and how.
    Counter {
        /// Inner packets read from the TUN, super-packets counted by their segments.
        FromTun = "from_tun_packets",
        /// Inner packets handed to the underlay.
        ToUnderlay = "to_underlay_packets",
        /// Inner packets received from the underlay, dropped ones included, frames that nobody had
        /// segmented counted by their segments.
        FromUnderlay = "from_underlay_packets",
        /// Inner packets written to the TUN.
        ToTun = "to_tun_packets",
        /// Packets the engine made itself: ICMP answers.
        Created = "created_packets",
        /// Bytes of UDP payload handed to the underlay.
        ToUnderlayBytes = "to_underlay_bytes",
        /// Inner bytes written to the TUN.
        ToTunBytes = "to_tun_bytes",
        /// Bytes user space itself wrote while forwarding: headers, never payload.
        CopiedBytes = "copied_bytes",
        /// Reads that gave a packet or super-packet.
        TunReads = "tun_reads",
        /// Writes of a packet or super-packet.
        TunWrites = "tun_writes",
        /// Messages sent, each one datagram or a segmented run.
        Sends = "underlay_sends",
        /// Messages received, each one datagram or a joined run.
        Receives = "underlay_receives",
        /// Times the worker slept.
        Sleeps = "sleeps",
        /// Times another sender was given the socket that the one who sends most has to itself.
        Favourites = "favourites",
        /// Times the kernel refused an offload and the packets were sent again without it.
        OffloadRetries = "offload_retries",
    }
}

counted! {
    /// What is told as a distribution.
    Measure {
        /// Packets and super-packets in one batch read from the TUN.
        OutBatch = "out_batch_packets",
        /// Messages in one batch received from the underlay.
        InBatch = "in_batch_messages",
        /// Microseconds of a turn, both directions together; one turn in 64 is timed.
        Turn = "turn_microseconds",
    }
}

const COUNTERS: usize = Counter::ALL.len();
const REASONS: usize = DropReason::ALL.len();
const MEASURES: usize = Measure::ALL.len();
/// Buckets of a distribution: up to 1, 2, 4, ... and the last for all above.
const BUCKETS: usize = 18;

/// How often a measure had which size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The sum of all values.
    pub sum: u64,
    buckets: [u64; BUCKETS],
}

impl Distribution {
    /// How many values there were in each bucket, with the largest it takes; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bound = |index: usize| (index + 1 < BUCKETS).then_some(1 << index);
        let buckets = self.buckets.iter().enumerate();
        buckets.map(move |(index, count)| (bound(index), *count))
    }

    fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
    }
}

/// A distribution that one worker writes.
#[derive(Debug, Default)]
struct Tally {
    sum: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Tally {
    fn add(&self, value: u64) {
        let bucket = u64::BITS - value.saturating_sub(1).leading_zeros();
        bump(&self.sum, value);
        bump(&self.buckets[(bucket as usize).min(BUCKETS - 1)], 1);
    }

    fn read(&self) -> Distribution {
        Distribution {
            sum: self.sum.load(Ordering::Relaxed),
            buckets: self
                .buckets
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
        }
    }
}

/// One worker's counters, on cache lines of their own.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    /// Whose they are.
    pub(crate) worker: usize,
    counters: [AtomicU64; COUNTERS],
    drops: [AtomicU64; REASONS],
    measures: [Tally; MEASURES],
    examples: [Slot; REASONS],
    watch: Watch,
}

pub(crate) type SharedStats = Arc<CachePadded<WorkerStats>>;

impl WorkerStats {
    pub(crate) fn shared(worker: usize) -> SharedStats {
        Arc::new(CachePadded::new(Self {
            worker,
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            drops: std::array::from_fn(|_| AtomicU64::new(0)),
            measures: std::array::from_fn(|_| Tally::default()),
            examples: std::array::from_fn(|_| Slot::default()),
            watch: Watch::new(),
        }))
    }

    pub(crate) fn add(&self, counter: Counter, amount: u64) {
        bump(&self.counters[counter as usize], amount);
    }

    pub(crate) fn drop(&self, reason: DropReason, packets: u64) {
        bump(&self.drops[reason as usize], packets);
    }

    pub(crate) fn measure(&self, measure: Measure, value: u64) {
        self.measures[measure as usize].add(value);
    }

    /// Shows what a packet looks like that is dropped, and the outer source it came from.
    pub(crate) fn show(&self, reason: DropReason, packet: &[u8], source: Option<IpAddr>) {
        self.examples[reason as usize].offer(packet, source);
        self.watch.offer(reason, packet, source);
    }

    /// One packet that was dropped for a reason.
    pub(crate) fn example(&self, reason: DropReason) -> Option<Example> {
        self.examples[reason as usize].read()
    }

    /// Packets that were dropped since somebody asked last, and wants more.
    pub(crate) fn recent(&self) -> Vec<Recent> {
        self.watch.ask(self.worker)
    }
}

/// Adds without a locked instruction: each counter has one writer.
pub(crate) fn bump(counter: &AtomicU64, amount: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(amount),
        Ordering::Relaxed,
    );
}

/// The sum over all workers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counters: [u64; COUNTERS],
    drops: [u64; REASONS],
    measures: [Distribution; MEASURES],
}

impl Counters {
    pub(crate) fn sum<'s>(workers: impl Iterator<Item = &'s SharedStats>) -> Self {
        let mut total = Self::default();
        for worker in workers {
            for (sum, counter) in total.counters.iter_mut().zip(&worker.counters) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, counter) in total.drops.iter_mut().zip(&worker.drops) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, tally) in total.measures.iter_mut().zip(&worker.measures) {
                sum.add(&tally.read());
            }
        }
        total
    }

    /// Takes in what another engine has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, counter) in self.counters.iter_mut().zip(other.counters) {
            *sum += counter;
        }
        for (sum, counter) in self.drops.iter_mut().zip(other.drops) {
            *sum += counter;
        }
        for (sum, measure) in self.measures.iter_mut().zip(&other.measures) {
            sum.add(measure);
        }
    }

    /// Takes in what was lost before any worker could count it.
    pub(crate) fn lose(&mut self, reason: DropReason, packets: u64) {
        self.counters[Counter::FromUnderlay as usize] += packets;
        self.drops[reason as usize] += packets;
    }

    /// How a measure was distributed.
    pub fn distribution(&self, measure: Measure) -> &Distribution {
        &self.measures[measure as usize]
    }

    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// How many packets were dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// How many packets were dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Packets that came in or were made, less those that went out or were dropped: zero.
    pub fn imbalance(&self) -> i64 {
        let inward = [Counter::FromTun, Counter::FromUnderlay, Counter::Created];
        let outward = [Counter::ToTun, Counter::ToUnderlay];
        let sum = |which: &[Counter]| which.iter().map(|&one| self.get(one)).sum::<u64>();
        sum(&inward) as i64 - sum(&outward) as i64 - self.dropped_total() as i64
    }

    /// Every counter and drop reason that is not zero, with its name.
    pub fn nonzero(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = Counter::ALL.iter().map(|&one| (one.name(), self.get(one)));
        let drops = DropReason::ALL
            .iter()
            .map(|&one| (one.name(), self.dropped(one)));
        counters.chain(drops).filter(|&(_, value)| value != 0)
    }
}
