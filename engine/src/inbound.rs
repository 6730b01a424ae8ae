//! Underlay -> TUN. In packet order:
//!
//! 1. receive a batch of messages, each one datagram or a joined run of them;
//! 2. for each message: its outer source must be a peer;
//! 3. for each datagram in it: unwrap, check, see that it is for us and from somebody who may send
//!    it, merge the ECN mark;
//! 4. join consecutive packets of a flow into super-packets;
//! 5. write them to the TUN.
//!
//! The inner hop limit is left alone: it was lowered where the packet entered the tunnel, and the
//! host that forwards it next lowers it again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringbuf::Frame;

use crate::config::{Form, SourceCheck};
use crate::io::tun_writer::Outgoing;
use crate::io::{PacketIo, is_dry};
use crate::outbound::{Pass, VxlanIdentity};
use crate::stats::{Counter, DropReason, Measure, WorkerStats};
use crate::sys::mmsg::RecvBatch;
use crate::table::SubnetTable;
use crate::wire::ip::{self, IpInfo};
use crate::wire::merge::{MergeConfig, Merger};
use crate::wire::vxlan::{self, VxlanError};
use crate::wire::{Mac, Piece, ecn};

/// Stands for every sender that is no peer, where they are listened to.
const STRANGER: u32 = u32::MAX;

/// Batches that are taken from one socket in a row at most, more than a socket's buffer holds.
const DRAIN_MAX: usize = 256;
/// How long the kernel may take to put a run of datagrams where it was about to.
const STRAGGLE: Duration = Duration::from_micros(50);

/// The inward half of a worker.
#[derive(Debug)]
pub(crate) struct Inbound<'a> {
    batch: RecvBatch<'a>,
    merger: Merger,
    vxlan: VxlanIdentity,
    check: SourceCheck,
    /// Counts batches, to look at another message of each.
    batches: usize,
    /// Somebody else is about to go on with the listeners.
    lent: Arc<AtomicBool>,
    is_lent: bool,
}

/// What stays the same for a turn of the worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'t> {
    pub(crate) table: &'t SubnetTable,
    pub(crate) stats: &'t WorkerStats,
    pub(crate) now: Duration,
}

/// The message a datagram came in.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    form: Form,
    ecn: u8,
    peer: u32,
}

impl<'a> Inbound<'a> {
    /// Receives into `frames`, one message each.
    pub(crate) fn new(
        frames: Vec<Frame<'a>>,
        merge: MergeConfig,
        vxlan: VxlanIdentity,
        check: SourceCheck,
        lent: Arc<AtomicBool>,
    ) -> Self {
        Self {
            batch: RecvBatch::new(frames),
            merger: Merger::new(merge),
            vxlan,
            check,
            batches: 0,
            lent,
            is_lent: false,
        }
    }

    /// One batch from each listener to the TUN.
    pub(crate) fn pass<I: PacketIo<'a>>(&mut self, io: &mut I, turn: Turn<'_>) -> Pass {
        if !self.is_lent && self.lent.load(Ordering::Relaxed) {
            self.lend(io, turn);
        }
        let mut pass = Pass {
            packets: 0,
            dry: true,
        };
        for listener in 0..io.underlay().listeners() {
            if !io.underlay().hears(listener) {
                continue;
            }
            let took = self.take(io, listener, turn);
            pass.packets += took.packets;
            pass.dry &= took.dry;
            if let Some((favourite, sender)) = self.weigh(io, listener, took.packets, turn.table) {
                self.favour(io, (listener, favourite, sender), turn);
            }
        }
        pass
    }

    /// One batch from one listener to the TUN.
    fn take<I: PacketIo<'a>>(&mut self, io: &mut I, listener: usize, turn: Turn<'_>) -> Pass {
        // A receive error is one that an earlier send earned; the next receive is clean.
        let messages = match io.underlay().receive(listener, &mut self.batch) {
            Ok(messages) => messages,
            Err(error) => {
                return Pass {
                    packets: 0,
                    dry: is_dry(&error),
                };
            }
        };
        turn.stats.add(Counter::Receives, messages as u64);
        turn.stats.measure(Measure::InBatch, messages as u64);
        let form = io.underlay().socket(listener).form;
        for slot in 0..messages {
            self.message((slot, form), turn);
        }
        self.write(io, turn.stats);
        Pass {
            packets: messages,
            dry: messages < self.batch.capacity(),
        }
    }

    /// After a batch: which socket shall hear one sender alone from now on, and whom. Strangers are
    /// no one's favourite.
    fn weigh<I: PacketIo<'a>>(
        &mut self,
        io: &mut I,
        listener: usize,
        messages: usize,
        table: &SubnetTable,
    ) -> Option<(usize, SocketAddr)> {
        self.batches = self.batches.wrapping_add(1);
        let sender = self.batch.sender(self.batches.checked_rem(messages)?)?;
        table.sender(sender.ip())?;
        let favourite = io.underlay().weigh(listener, sender, messages)?;
        Some((favourite, sender))
    }

    /// Gives a sender of a listener the socket of its favourite. Flows keep their order: what is left of the favourite before is taken
    /// before the listener has more of it, and what the listener has of the new one before more of that.
    fn favour<I: PacketIo<'a>>(
        &mut self,
        io: &mut I,
        (listener, favourite, sender): (usize, usize, SocketAddr),
        turn: Turn<'_>,
    ) {
        self.let_go(io, favourite, turn);
        if io.underlay().favour(favourite, Some(sender)) {
            turn.stats.add(Counter::Favourites, 1);
            self.drain(io, listener, turn);
        }
    }

    /// Has a favourite's socket hear nobody, and takes what it has.
    fn let_go<I: PacketIo<'a>>(&mut self, io: &mut I, favourite: usize, turn: Turn<'_>) {
        if io.underlay().hears(favourite) && io.underlay().favour(favourite, None) {
            self.drain(io, favourite, turn);
        }
    }

    /// Has nothing arrive any more with this worker alone: whoever receives after it has the
    /// listeners, but not the favourites.
    pub(crate) fn lend<I: PacketIo<'a>>(&mut self, io: &mut I, turn: Turn<'_>) {
        self.is_lent = true;
        io.underlay().lend();
        for favourite in io.underlay().favourites() {
            self.let_go(io, favourite, turn);
        }
    }

    /// Takes all a socket has that hears somebody else from now on. What the kernel was about to
    /// put there when it was told so comes a moment later.
    fn drain<I: PacketIo<'a>>(&mut self, io: &mut I, listener: usize, turn: Turn<'_>) {
        let mut last = Instant::now();
        for _ in 0..DRAIN_MAX {
            while self.take(io, listener, turn).packets == 0 {
                if last.elapsed() > STRAGGLE {
                    return;
                }
            }
            last = Instant::now();
        }
    }

    /// Step 5.
    fn write<I: PacketIo<'a>>(&mut self, io: &mut I, stats: &WorkerStats) {
        let merger = &mut self.merger;
        merger.flush(self.batch.frames_mut());
        let (writes, pieces, headers) = (merger.writes(), merger.pieces(), merger.headers());
        io.write_tun(
            &Outgoing {
                writes,
                pieces,
                headers,
                frames: self.batch.frames(),
            },
            stats,
        );
        stats.add(Counter::CopiedBytes, headers.len() as u64);
        stats.add(Counter::FromUnderlay, merger.unsegmented() as u64);
        merger.clear();
        for transport in io.refusals().hopeless() {
            if merger.give_up(transport) {
                tracing::warn!(
                    "the device refuses joined packets ({transport:?}): they are written one by one from now on, which \
                     costs speed; --no-offload=merge does so from the start"
                );
            }
        }
    }

    /// Step 2, and the datagrams of the message one by one.
    fn message(&mut self, (slot, form): (usize, Form), Turn { table, stats, now }: Turn<'_>) {
        let received = self.batch.received(slot);
        let packets = received.packets();
        stats.add(Counter::FromUnderlay, packets);
        let known = received.source.and_then(|source| table.sender(source));
        if let Some(hop) = known {
            let bytes = received.len as u64;
            let traffic = &table.hop(hop).traffic;
            traffic.received(stats.worker, packets, bytes, now);
        }
        let strangers = (self.check == SourceCheck::Off).then_some(STRANGER);
        let Some(peer) = known.or(strangers) else {
            let frame = &self.batch.frames()[slot];
            let bytes = frame.start()..frame.start() + received.len;
            let message = frame.whole().get(bytes).unwrap_or_default();
            stats.show(DropReason::InNotPeer, message, received.source);
            return stats.drop(DropReason::InNotPeer, packets);
        };
        let lost = |packets| {
            if let Some(hop) = known {
                table.hop(hop).traffic.dropped(stats.worker, packets);
            }
        };
        if received.truncated {
            lost(packets);
            return stats.drop(DropReason::InTruncated, packets);
        }
        let envelope = Envelope {
            form,
            ecn: received.ecn,
            peer,
        };
        let first = self.batch.frames()[slot].start();
        for (start, len) in received.datagrams() {
            let start = (first + start) as u32;
            let datagram = Piece {
                slot: slot as u16,
                start,
                len: len as u32,
            };
            if let Some(reason) = self.refusal(datagram, &envelope, table) {
                let bytes = datagram.of(self.batch.frames_mut()[slot].whole_mut());
                stats.show(reason, bytes, received.source);
                stats.drop(reason, 1);
                lost(1);
            }
        }
    }

    /// Steps 3 and 4; the reason why not, if the packet is not carried.
    fn refusal(
        &mut self,
        datagram: Piece,
        envelope: &Envelope,
        table: &SubnetTable,
    ) -> Option<DropReason> {
        let frames = self.batch.frames_mut();
        let whole = frames[usize::from(datagram.slot)].whole_mut();
        let (packet, mac) = match unwrap(datagram, whole, &envelope.form, self.vxlan.mac) {
            Ok(unwrapped) => unwrapped,
            Err(reason) => return Some(reason),
        };
        let bytes = packet.of_mut(whole);
        let Ok(mut info) = IpInfo::parse(bytes) else {
            return Some(DropReason::InMalformed);
        };
        let refused = refuse_header(bytes, &info, table).or_else(|| {
            let source = ip::source(bytes, info.family);
            refuse_source(self.check, source, (envelope.peer, mac), table)
        });
        if refused.is_some() {
            return refused;
        }
        if envelope.ecn != 0 {
            let Some(merged) = ecn::merge(envelope.ecn, info.ecn) else {
                return Some(DropReason::InEcn);
            };
            ip::set_ecn(bytes, &info, merged);
            info.ecn = merged;
        }
        let packet = Piece {
            len: info.total_len as u32,
            ..packet
        };
        self.merger
            .push(frames, packet, &info, envelope.peer)
            .err()
            .map(|_| DropReason::InOversize)
    }
}

/// The inner packet of a datagram, padding included, and the Ethernet address it was sent from
/// where it has one.
fn unwrap(
    datagram: Piece,
    whole: &[u8],
    form: &Form,
    own_mac: Mac,
) -> Result<(Piece, Option<Mac>), DropReason> {
    match *form {
        Form::Udp { .. } => Ok((datagram, None)),
        Form::Vxlan { vni, .. } => {
            let bytes = datagram.of(whole);
            let (offset, _) = vxlan::open(bytes, vni, own_mac).map_err(vxlan_reason)?;
            Ok((datagram.skip(offset as u32), Some(vxlan::sender(bytes))))
        }
    }
}

fn vxlan_reason(error: VxlanError) -> DropReason {
    match error {
        VxlanError::TooShort => DropReason::InVxlanShort,
        VxlanError::Flags => DropReason::InVxlanFlags,
        VxlanError::Vni => DropReason::InVxlanVni,
        VxlanError::Mac => DropReason::InVxlanMac,
        VxlanError::Ethertype => DropReason::InVxlanType,
    }
}

/// What an honest peer never sends: a broken header, or traffic for others.
fn refuse_header(bytes: &[u8], info: &IpInfo, table: &SubnetTable) -> Option<DropReason> {
    if !ip::header_checksum_ok(bytes, info) {
        return Some(DropReason::InHeaderChecksum);
    }
    if info.ttl == 0 {
        return Some(DropReason::InTtl);
    }
    let ours = table.is_own(ip::destination(bytes, info.family));
    (!ours).then_some(DropReason::InNotOurs)
}

/// A source that the one who sent the packet, a hop and perhaps an Ethernet address, may not use.
fn refuse_source(
    check: SourceCheck,
    source: IpAddr,
    (hop, mac): (u32, Option<Mac>),
    table: &SubnetTable,
) -> Option<DropReason> {
    let ours = check != SourceCheck::Off && table.is_from_us(source);
    if ours || !may_be_source(source) {
        return Some(DropReason::InForbiddenSource);
    }
    let foreign = check == SourceCheck::Strict && !table.belongs_to(source, hop, mac);
    foreign.then_some(DropReason::InForeignSource)
}

/// Whether an address can be somebody's on another node: not of a kind that stays on a link or a
/// host, names many or nobody, or hides another family's.
fn may_be_source(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            (1..224).contains(&first) && first != 127 && !v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            let of_a_link = v6.is_unicast_link_local() || v6.is_loopback();
            let of_nobody = v6.is_multicast() || v6.is_unspecified();
            !(of_a_link || of_nobody || v6.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Peer, PeerForm, Route};
    use SourceCheck::{Off, Peers, Strict};

    const FORBIDDEN: Option<DropReason> = Some(DropReason::InForbiddenSource);
    const FOREIGN: Option<DropReason> = Some(DropReason::InForeignSource);
    const OURS: &str = "fd77::1";

    /// A node with both families, and a peer with one MAC for each.
    fn table() -> SubnetTable {
        let route = |subnet: &str, address: &str, last| Route {
            subnet: subnet.parse().expect("a subnet"),
            peer: Peer {
                address: address.parse().expect("an address"),
                port: 8472,
                form: PeerForm::Vxlan { mac: mac(last) },
                mtu: None,
            },
        };
        let own = ["10.5.1.0/24", "fd05:0:0:1::/64"].map(|net| net.parse().expect("a subnet"));
        let routes = [
            route("10.5.2.0/24", "192.168.77.2", 2),
            route("fd05:0:0:2::/64", "fd77::2", 3),
            route("fd05:0:0:4::/64", "fd77::4", 4),
        ];
        let table = SubnetTable::build(own.into(), routes);
        table.with_addresses(vec![OURS.parse().expect("an address")])
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    /// What becomes of a packet from the peer's IPv6 address.
    fn verdict(check: SourceCheck, source: &str, last: u8) -> Option<DropReason> {
        let table = table();
        let outer = "fd77::2".parse().expect("an address");
        let hop = table.sender(outer).expect("a peer");
        let source = source.parse().expect("an address");
        refuse_source(check, source, (hop, Some(mac(last))), &table)
    }

    #[test]
    fn a_peers_ipv6_sources_are_told_from_others() {
        for (source, peers, strict) in [
            ("fd05:0:0:2::9", None, None),
            ("fd05:0:0:4::9", None, FOREIGN),
            ("2001:db8::1", None, FOREIGN),
            ("10.5.2.9", None, FOREIGN),
            ("fd05:0:0:1::9", FORBIDDEN, FORBIDDEN),
            (OURS, FORBIDDEN, FORBIDDEN),
        ] {
            assert_eq!(verdict(Peers, source, 3), peers, "{source}");
            assert_eq!(verdict(Strict, source, 3), strict, "{source}");
            assert_eq!(verdict(Off, source, 3), None, "{source}");
        }
        assert_eq!(verdict(Strict, "fd05:0:0:2::9", 9), FOREIGN);
    }

    #[test]
    fn nobodys_source_is_taken_in_in_no_mode() {
        for source in [
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.5.2.9",
            "0.0.0.0",
            "0.1.2.3",
            "127.1.2.3",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            for check in [Peers, Strict, Off] {
                assert_eq!(verdict(check, source, 3), FORBIDDEN, "{source}");
            }
        }
    }
}
