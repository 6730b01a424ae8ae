//! What comes from other nodes, message by message: who sent it, what is in it, and whether that is
//! taken in. The same for whatever memory the messages were received into.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Form, SourceCheck};
use crate::io::PacketIo;
use crate::io::tun_writer::Outgoing;
use crate::io::underlay::Underlay;
use crate::outbound::VxlanIdentity;
use crate::stats::{Counter, DropReason, WorkerStats};
use crate::sys::mmsg::Received;
use crate::table::SubnetTable;
use crate::wire::ip::{self, IpInfo};
use crate::wire::merge::{MergeConfig, Merger};
use crate::wire::outer::Outer;
use crate::wire::vxlan::{self, VxlanError};
use crate::wire::{Mac, Piece, Slot, ecn};

/// Stands for every sender that is no peer, where they are listened to.
const STRANGER: u32 = u32::MAX;

/// What stays the same for a turn of the worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'t> {
    pub(crate) table: &'t SubnetTable,
    pub(crate) stats: &'t WorkerStats,
    pub(crate) now: Duration,
}

/// From messages to writes.
#[derive(Debug)]
pub(crate) struct Intake {
    merger: Merger,
    vxlan: VxlanIdentity,
    check: SourceCheck,
}

/// The message a datagram came in.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    form: Form,
    ecn: u8,
    peer: u32,
}

impl Intake {
    /// Nothing taken in yet.
    pub(crate) fn new(merge: MergeConfig, vxlan: VxlanIdentity, check: SourceCheck) -> Self {
        Self {
            merger: Merger::new(merge),
            vxlan,
            check,
        }
    }

    /// What the kernel does with a frame before step 2.
    pub(crate) fn frame<S: Slot>(
        &mut self,
        frames: &mut [S],
        slot: usize,
        underlay: &Underlay,
        turn: Turn<'_>,
    ) {
        let frame = frames[slot].whole();
        let Some((outer, form)) = open(frame, underlay) else {
            turn.stats.add(Counter::FromUnderlay, 1);
            turn.stats.show(DropReason::InOuter, frame, None);
            return turn.stats.drop(DropReason::InOuter, 1);
        };
        let received = Received {
            source: Some(outer.source),
            start: outer.payload.start,
            len: outer.payload.len(),
            segment: outer.payload.len(),
            ecn: outer.ecn,
            truncated: false,
        };
        self.message(frames, (slot, form), received, turn);
    }

    /// Step 2, and the datagrams of the message in `slot` one by one.
    pub(crate) fn message<S: Slot>(
        &mut self,
        frames: &mut [S],
        (slot, form): (usize, Form),
        received: Received,
        Turn { table, stats, now }: Turn<'_>,
    ) {
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
            let bytes = received.start..received.start + received.len;
            let message = frames[slot].whole().get(bytes).unwrap_or_default();
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
        for (start, len) in received.datagrams() {
            let datagram = Piece {
                slot: slot as u16,
                start: (received.start + start) as u32,
                len: len as u32,
            };
            if let Some(reason) = self.refusal(frames, datagram, &envelope, table) {
                let bytes = datagram.of(frames[slot].whole_mut());
                stats.show(reason, bytes, received.source);
                stats.drop(reason, 1);
                lost(1);
            }
        }
    }

    /// Steps 3 and 4; the reason why not, if the packet is not carried.
    fn refusal<S: Slot>(
        &mut self,
        frames: &mut [S],
        datagram: Piece,
        envelope: &Envelope,
        table: &SubnetTable,
    ) -> Option<DropReason> {
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

    /// Step 5.
    pub(crate) fn write<'a, S: Slot, I: PacketIo<'a>>(
        &mut self,
        frames: &mut [S],
        io: &mut I,
        stats: &WorkerStats,
    ) {
        let merger = &mut self.merger;
        merger.flush(frames);
        let (writes, pieces, headers) = (merger.writes(), merger.pieces(), merger.headers());
        io.write_tun(
            &Outgoing {
                writes,
                pieces,
                headers,
                frames,
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
}

/// The datagram of a frame, and the form it is in.
fn open(frame: &[u8], underlay: &Underlay) -> Option<(Outer, Form)> {
    let outer = Outer::parse(frame)?;
    let form = underlay.form_at(outer.port)?;
    let headers = match form {
        Form::Udp { .. } => 0,
        Form::Vxlan { .. } => vxlan::OVERHEAD,
    };
    outer.is_intact(frame, headers).then_some((outer, form))
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
