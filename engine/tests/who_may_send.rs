//! Whose packets are taken in, row by row: what a datagram looks like, and what becomes of it in
//! each mode of checking. The rows for VXLAN are those that tell endpoints apart; where the
//! kernel's own endpoint does otherwise the row says so.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::SourceCheck::{self, Off, Peers, Strict};
use engine::{DropReason, EngineConfig, Form, IoChoice, Mac, Peer, PeerForm, Route, SubnetTable};
use loopback::oracle::packet;
use loopback::{FAR, Loopback, OWN, config, receive};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

const PORT: u16 = 8285;
const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// An address of this node outside the overlay network.
const OWN_UNDERLAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const PATIENCE: Duration = Duration::from_secs(10);
const PAYLOAD: &[u8] = b"0123456789";

/// An engine whose table knows the peer, and another one behind another address.
fn start(form: Form, check: SourceCheck) -> Loopback {
    let mut lab = Loopback::start(EngineConfig {
        forms: vec![form],
        source_check: check,
        ..config(IoChoice::Auto)
    });
    let route = |subnet: &str, last, mac| Route {
        subnet: subnet.parse().unwrap(),
        peer: Peer {
            address: IpAddr::from([127, 0, 0, last]),
            port: PORT,
            form: match form {
                Form::Udp { .. } => PeerForm::Udp,
                Form::Vxlan { .. } => PeerForm::Vxlan { mac },
            },
            mtu: None,
        },
    };
    let routes = [
        route("10.5.2.0/24", 2, PEER_MAC),
        route("10.5.3.0/24", 3, Mac([2, 0, 0, 0, 0, 3])),
    ];
    let own = vec!["10.5.1.0/24".parse().unwrap()];
    let table = SubnetTable::build(own, routes).with_addresses(vec![OWN_UNDERLAY.into()]);
    lab.engine.publish(table);
    // One that hears whoever gets through.
    lab.inner = UdpSocket::bind((OWN, 0)).unwrap();
    lab.inner.set_read_timeout(Some(PATIENCE)).unwrap();
    lab
}

fn vxlan_form() -> Form {
    Form::Vxlan {
        port: PORT,
        vni: 1,
        mac: OWN_MAC,
    }
}

/// A VXLAN datagram as a kernel peer sends it.
fn vxlan(inner: &[u8]) -> Vec<u8> {
    let mut datagram = vec![8, 0, 0, 0, 0, 0, 1, 0];
    datagram.extend(OWN_MAC.0);
    datagram.extend(PEER_MAC.0);
    datagram.extend([8, 0]);
    datagram.extend(inner);
    datagram
}

/// An inner packet with one field changed, and its header checksum right again.
fn changed(lab: &Loopback, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = lab.packet_inward(PAYLOAD, 1);
    change(&mut bytes);
    bytes[10..12].fill(0);
    let sum = !packet::sum(&bytes[..20]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn from(lab: &Loopback, source: [u8; 4]) -> Vec<u8> {
    let mut bytes = changed(lab, |bytes| bytes[12..16].copy_from_slice(&source));
    // No checksum is a right one.
    bytes[26..28].fill(0);
    bytes
}

/// A datagram, and why it goes no further if it does not.
type Row = (String, Vec<u8>, Option<DropReason>);

fn row(what: impl Into<String>, datagram: Vec<u8>, outcome: impl Into<Option<DropReason>>) -> Row {
    (what.into(), datagram, outcome.into())
}

fn dropped(lab: &Loopback) -> u64 {
    let counters = lab.engine.counters();
    counters.dropped_total() - counters.dropped(DropReason::OutNotUnicast)
}

/// Sends each row as the peer, and sees that it is carried or refused for the right reason, once.
fn hold(lab: &Loopback, rows: Vec<Row>) {
    for (what, datagram, outcome) in rows {
        let before = lab.engine.counters();
        lab.peer.send(&datagram).unwrap();
        match outcome {
            None => {
                let mut buffer = [0; 100];
                let len = receive(&lab.inner, &mut buffer)
                    .unwrap_or_else(|error| panic!("{what}: {error} {:?}", lab.engine.counters()));
                assert_eq!(&buffer[..len], PAYLOAD, "{what}");
            }
            Some(reason) => {
                let count = || lab.engine.counters().dropped(reason) - before.dropped(reason);
                let waits = (0..500).take_while(|_| count() == 0);
                waits.for_each(|_| sleep(Duration::from_millis(5)));
                let seen: Vec<_> = lab.engine.counters().nonzero().collect();
                assert_eq!(count(), 1, "{what}: {reason:?} in {seen:?}");
            }
        }
    }
}

/// What depends on the inner source alone, the same in both forms.
fn sources(lab: &Loopback, check: SourceCheck) -> Vec<Row> {
    let forbidden = DropReason::InForbiddenSource;
    let foreign = (check == Strict).then_some(DropReason::InForeignSource);
    let ours = (check != Off).then_some(forbidden);
    let cases = [
        ("the peer's subnet", [10, 5, 2, 9], None),
        ("the first address of it", [10, 5, 2, 0], None),
        ("another peer's subnet", [10, 5, 3, 9], foreign),
        ("nobody's subnet", [10, 5, 77, 9], foreign),
        ("outside the overlay network", [8, 8, 8, 8], foreign),
        ("our subnet", [10, 5, 1, 9], ours),
        ("our tunnel address", OWN.octets(), ours),
        ("our underlay address", OWN_UNDERLAY.octets(), ours),
        ("loopback", [127, 0, 0, 1], Some(forbidden)),
        ("this network", [0, 0, 0, 1], Some(forbidden)),
        ("nobody", [0, 0, 0, 0], Some(forbidden)),
        ("this link", [169, 254, 1, 1], Some(forbidden)),
        ("a group", [224, 0, 0, 5], Some(forbidden)),
        ("a reserved address", [240, 0, 0, 1], Some(forbidden)),
        ("everybody", [255, 255, 255, 255], Some(forbidden)),
    ];
    // With the check off the kernel still drops what claims to come from this very host: those rows
    // cannot be seen to arrive.
    let seen = |source: &[u8; 4]| check != Off || !source.starts_with(&[10, 5, 1]);
    let rows = cases.into_iter().filter(|(_, source, _)| seen(source));
    let named = |(name, source, outcome)| {
        let name = format!("inner source: {name}, {check:?}");
        row(name, from(lab, source), outcome)
    };
    rows.map(named).collect()
}

/// What makes a packet unfit whoever sends it.
fn packets(lab: &Loopback) -> Vec<Row> {
    use DropReason::{InHeaderChecksum, InMalformed, InNotOurs, InTtl};
    let good = lab.packet_inward(PAYLOAD, 1);
    let mut bad_sum = good.clone();
    bad_sum[10] ^= 1;
    let to = |address: [u8; 4]| changed(lab, |bytes| bytes[16..20].copy_from_slice(&address));
    vec![
        row("good", good.clone(), None),
        row("padded", [&good[..], &[0xcc; 30]].concat(), None),
        row("header checksum", bad_sum, InHeaderChecksum),
        row("longer than the frame", good[..37].to_vec(), InMalformed),
        row(
            "a header of 16 bytes",
            changed(lab, |b| b[0] = 0x44),
            InMalformed,
        ),
        row("its last hop", changed(lab, |bytes| bytes[8] = 1), None),
        row("no hop left", changed(lab, |bytes| bytes[8] = 0), InTtl),
        row("for another node", to([10, 5, 3, 2]), InNotOurs),
        row("for the sender", to(FAR.octets()), InNotOurs),
        row("for a group", to([224, 0, 0, 1]), InNotOurs),
        row("for everybody", to([255; 4]), InNotOurs),
        row("for loopback", to([127, 0, 0, 1]), InNotOurs),
        row("for our underlay", to(OWN_UNDERLAY.octets()), InNotOurs),
    ]
}

/// What an endpoint must decide about the headers in front of the inner packet.
fn endpoint(lab: &Loopback, check: SourceCheck) -> Vec<Row> {
    use DropReason::{InVxlanFlags, InVxlanMac, InVxlanShort, InVxlanType, InVxlanVni};
    let good = vxlan(&lab.packet_inward(PAYLOAD, 1));
    let with = |at: usize, bytes: &[u8]| {
        let mut datagram = good.clone();
        datagram[at..at + bytes.len()].copy_from_slice(bytes);
        datagram
    };
    let flipped = |bit: usize| with(bit / 8, &[good[bit / 8] ^ 0x80 >> (bit % 8)]);
    let mut rows: Vec<_> = [0, 7, 8, 21, 22]
        .map(|len| row(format!("{len} bytes"), good[..len].to_vec(), InVxlanShort))
        .into();
    // The flags, a group policy among them, and the reserved bits; RFC 7348 would ignore them.
    rows.extend((0..32).map(|bit| row(format!("bit {bit}"), flipped(bit), InVxlanFlags)));
    rows.extend((32..56).map(|bit| row(format!("bit {bit}"), flipped(bit), InVxlanVni)));
    rows.extend((56..64).map(|bit| row(format!("bit {bit}"), flipped(bit), InVxlanFlags)));
    let stranger = (check == Strict).then_some(DropReason::InForeignSource);
    let macs: [(&str, usize, [u8; 6], Option<DropReason>); 7] = [
        ("from our own address", 14, OWN_MAC.0, Some(InVxlanMac)),
        (
            "to another address",
            8,
            [2, 0, 0, 0, 0, 9],
            Some(InVxlanMac),
        ),
        // The kernel's endpoint delivers the next three.
        ("to everybody", 8, [255; 6], Some(InVxlanMac)),
        ("from a group", 14, [3, 0, 0, 0, 0, 2], Some(InVxlanMac)),
        ("from nobody", 14, [0; 6], Some(InVxlanMac)),
        ("from an unknown address", 14, [2, 0, 0, 0, 0, 9], stranger),
        ("from another peer's", 14, [2, 0, 0, 0, 0, 3], stranger),
    ];
    rows.extend(macs.map(|(what, at, mac, outcome)| row(what, with(at, &mac), outcome)));
    let types: [(&str, u16); 4] = [
        ("IPv6 announced, IPv4 inside", 0x86dd),
        ("ARP", 0x0806),
        ("a VLAN tag", 0x8100),
        ("nothing that has a name", 0),
    ];
    rows.extend(types.map(|(what, kind)| row(what, with(20, &kind.to_be_bytes()), InVxlanType)));
    rows.push(row(
        "IPv6 inside, IPv4 announced",
        with(22, &[0x65]),
        InVxlanType,
    ));
    rows
}

fn vxlan_rows_hold(check: SourceCheck) {
    let lab = start(vxlan_form(), check);
    hold(&lab, endpoint(&lab, check));
    let wrapped = |rows: Vec<Row>| {
        let wrap = |(what, packet, outcome): Row| (what, vxlan(&packet), outcome);
        rows.into_iter().map(wrap).collect()
    };
    hold(&lab, wrapped(packets(&lab)));
    hold(&lab, wrapped(sources(&lab, check)));
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

fn udp_rows_hold(check: SourceCheck) {
    let lab = start(Form::Udp { port: PORT }, check);
    hold(&lab, packets(&lab));
    hold(&lab, sources(&lab, check));
    let good = lab.packet_inward(PAYLOAD, 1);
    let truncated = [0, 1, 19].map(|len| {
        let what = format!("{len} bytes");
        row(what, good[..len].to_vec(), DropReason::InMalformed)
    });
    hold(&lab, truncated.into());
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

#[test]
fn any_source_of_a_peer_but_ours_is_taken_in_over_vxlan() {
    vxlan_rows_hold(Peers);
}

#[test]
fn a_peers_own_sources_alone_are_taken_in_over_vxlan_where_that_is_asked_for() {
    vxlan_rows_hold(Strict);
}

#[test]
fn any_source_is_taken_in_over_vxlan_where_that_is_asked_for() {
    vxlan_rows_hold(Off);
}

#[test]
fn any_source_of_a_peer_but_ours_is_taken_in_in_udp_form() {
    udp_rows_hold(Peers);
}

#[test]
fn a_peers_own_sources_alone_are_taken_in_in_udp_form_where_that_is_asked_for() {
    udp_rows_hold(Strict);
}

#[test]
fn any_source_is_taken_in_in_udp_form_where_that_is_asked_for() {
    udp_rows_hold(Off);
}

fn strangers_are(check: SourceCheck, heard: bool) {
    let lab = start(vxlan_form(), check);
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 9), PORT)).unwrap();
    let datagram = vxlan(&lab.packet_inward(PAYLOAD, 1));
    stranger
        .send_to(&datagram, (Ipv4Addr::LOCALHOST, PORT))
        .unwrap();
    if heard {
        assert_eq!(receive(&lab.inner, &mut [0; 100]).unwrap(), PAYLOAD.len());
    } else {
        hold(&lab, vec![row("a peer's", datagram, None)]);
        assert_eq!(dropped(&lab), 1);
        assert_eq!(lab.engine.counters().dropped(DropReason::InNotPeer), 1);
    }
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

#[test]
fn strangers_are_heard_only_where_the_check_is_off() {
    for (check, heard) in [(Peers, false), (Strict, false), (Off, true)] {
        std::thread::spawn(move || strangers_are(check, heard))
            .join()
            .unwrap();
    }
}

/// A peer that leaves its outer checksum out, as kernel endpoints may, is heard.
#[test]
fn an_outer_checksum_may_be_left_out() {
    let lab = start(vxlan_form(), Strict);
    lab.peer_leaves_out_checksums();
    hold(
        &lab,
        vec![row(
            "no outer checksum",
            vxlan(&lab.packet_inward(PAYLOAD, 1)),
            None,
        )],
    );
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

/// Wrapped twice, for the tunnel's own address or for the node's: opened once and no more.
#[test]
fn a_tunnel_inside_the_tunnel_is_not_opened() {
    let lab = start(vxlan_form(), Peers);
    let within = |to: [u8; 4]| {
        let mut packet = lab.packet_inward(&vxlan(&lab.packet_inward(PAYLOAD, 1)), 1);
        packet[16..20].copy_from_slice(&to);
        packet[22..24].copy_from_slice(&PORT.to_be_bytes());
        packet[26..28].fill(0);
        packet[10..12].fill(0);
        let sum = !packet::sum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        vxlan(&packet)
    };
    lab.peer.send(&within(OWN.octets())).unwrap();
    hold(
        &lab,
        vec![
            row(
                "for the node",
                within([127, 0, 0, 1]),
                DropReason::InNotOurs,
            ),
            row(
                "for the node",
                within(OWN_UNDERLAY.octets()),
                DropReason::InNotOurs,
            ),
            row(
                "not wrapped twice",
                vxlan(&lab.packet_inward(PAYLOAD, 1)),
                None,
            ),
        ],
    );
    let counters = lab.engine.stop();
    // The one for the tunnel's address was a packet for this host like any other.
    assert_eq!(counters.get(engine::Counter::ToTun), 2, "{counters:?}");
}
