//! Counters: one set per worker, written by that worker alone, summed only when somebody asks.
//!
//! The law they obey, exactly, once the engine has stopped or is quiet:
//! `from_tun + from_underlay + created = to_tun + to_underlay + all drops`, in inner packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

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
        /// Times the kernel refused an offload and the packets were sent again without it.
        OffloadRetries = "offload_retries",
    }
}

const COUNTERS: usize = Counter::ALL.len();
const REASONS: usize = DropReason::ALL.len();

/// One worker's counters, on cache lines of their own.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    counters: [AtomicU64; COUNTERS],
    drops: [AtomicU64; REASONS],
}

pub(crate) type SharedStats = Arc<CachePadded<WorkerStats>>;

impl WorkerStats {
    pub(crate) fn shared() -> SharedStats {
        let counters = std::array::from_fn(|_| AtomicU64::new(0));
        let drops = std::array::from_fn(|_| AtomicU64::new(0));
        Arc::new(CachePadded::new(Self { counters, drops }))
    }

    pub(crate) fn add(&self, counter: Counter, amount: u64) {
        bump(&self.counters[counter as usize], amount);
    }

    pub(crate) fn drop(&self, reason: DropReason, packets: u64) {
        bump(&self.drops[reason as usize], packets);
    }
}

/// Adds without a locked instruction: each counter has one writer.
fn bump(counter: &AtomicU64, amount: u64) {
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
