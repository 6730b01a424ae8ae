//! The table against the obvious way of looking up.

use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

fn route(subnet: &str, last: u8) -> Route {
    let address = IpAddr::from([192, 168, 77, last]);
    let peer = Peer {
        address,
        port: 8285,
        form: PeerForm::Udp,
        mtu: None,
    };
    Route {
        subnet: subnet.parse().expect("a subnet"),
        peer,
    }
}

fn table(routes: &[(&str, u8)]) -> SubnetTable {
    SubnetTable::build(
        Vec::new(),
        routes.iter().map(|&(subnet, last)| route(subnet, last)),
    )
}

fn owner(table: &SubnetTable, address: &str) -> Option<u8> {
    match table.route(address.parse().expect("an address"))?.address {
        IpAddr::V4(v4) => Some(v4.octets()[3]),
        IpAddr::V6(_) => None,
    }
}

#[test]
fn an_empty_table_leads_nowhere() {
    let table = table(&[]);
    assert_eq!(owner(&table, "10.5.1.1"), None);
    assert_eq!(owner(&table, "fd05::1"), None);
}

#[test]
fn the_first_and_last_address_of_a_subnet_belong_to_it_and_their_neighbours_do_not() {
    let table = table(&[("10.5.2.0/24", 2), ("10.5.9.0/24", 9)]);
    assert_eq!(owner(&table, "10.5.1.255"), None);
    assert_eq!(owner(&table, "10.5.2.0"), Some(2));
    assert_eq!(owner(&table, "10.5.2.255"), Some(2));
    assert_eq!(owner(&table, "10.5.3.0"), None);
    assert_eq!(owner(&table, "10.5.9.255"), Some(9));
    assert_eq!(owner(&table, "10.5.10.0"), None);
    assert_eq!(owner(&table, "9.255.255.255"), None);
}

#[test]
fn the_longest_prefix_wins_in_whatever_order_they_come() {
    let routes = [
        ("10.0.0.0/8", 8),
        ("10.5.0.0/16", 16),
        ("10.5.2.0/24", 24),
        ("10.5.2.7/32", 32),
    ];
    for turn in 0..routes.len() {
        let mut turned = routes;
        turned.rotate_left(turn);
        let table = table(&turned);
        assert_eq!(owner(&table, "10.5.2.7"), Some(32));
        assert_eq!(owner(&table, "10.5.2.8"), Some(24));
        assert_eq!(owner(&table, "10.5.3.8"), Some(16));
        assert_eq!(owner(&table, "10.6.3.8"), Some(8));
    }
}

#[test]
fn ipv6_subnets_of_several_lengths_are_told_apart() {
    let table = table(&[("fd05:0:0:1::/64", 1), ("fd05::/48", 48)]);
    assert_eq!(owner(&table, "fd05:0:0:1::9"), Some(1));
    assert_eq!(owner(&table, "fd05:0:0:2::9"), Some(48));
    assert_eq!(owner(&table, "fd06::9"), None);
}

#[test]
fn a_default_route_covers_everything() {
    let table = table(&[("0.0.0.0/0", 1), ("::/0", 2)]);
    assert_eq!(owner(&table, "255.255.255.255"), Some(1));
    assert_eq!(owner(&table, "ff::1"), Some(2));
}

#[test]
fn senders_are_the_peers_and_only_they() {
    let table = table(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 2), ("10.5.4.0/24", 4)]);
    assert_eq!(table.peers(), 2);
    assert!(table.sender([192, 168, 77, 2].into()).is_some());
    assert!(table.sender([192, 168, 77, 3].into()).is_none());
}

#[test]
fn readers_see_a_published_table_at_their_next_load() {
    let writer = TableWriter::default();
    let mut reader = writer.reader();
    assert_eq!(reader.load().peers(), 0);
    writer.publish(table(&[("10.5.2.0/24", 2)]));
    assert_eq!(reader.load().peers(), 1);
}

/// The obvious way.
fn reference(routes: &[Route], address: IpAddr) -> Option<IpAddr> {
    let mut holding = routes
        .iter()
        .filter(|route| route.subnet.contains(&address));
    let longest = holding
        .clone()
        .map(|route| route.subnet.prefix_len())
        .max()?;
    // Of two equal subnets the later one counts.
    holding
        .rfind(|route| route.subnet.prefix_len() == longest)
        .map(|one| one.peer.address)
}

fn v4_routes() -> impl Strategy<Value = Vec<Route>> {
    // Few distinct high bits, so that prefixes do overlap.
    let one = (0u32..1 << 14, 8u8..=32, 1u8..250).prop_map(|(bits, length, last)| {
        let address = Ipv4Addr::from((10 << 24) | (bits << 10) | u32::from(last));
        let subnet = IpNet::new(address.into(), length)
            .expect("a length")
            .trunc();
        Route {
            subnet,
            ..route("10.0.0.0/8", last)
        }
    });
    prop::collection::vec(one, 0..40)
}

proptest! {
    #[test]
    fn lookups_agree_with_a_linear_search(routes in v4_routes(), probes in prop::collection::vec(any::<u32>(), 50)) {
        let table = SubnetTable::build(Vec::new(), routes.clone());
        let near = routes.iter().flat_map(|route| [route.subnet.network(), route.subnet.broadcast()]);
        let inside = probes.iter().map(|bits| IpAddr::V4(Ipv4Addr::from((10 << 24) | bits >> 8)));
        for address in near.chain(inside) {
            prop_assert_eq!(table.route(address).map(|peer| peer.address), reference(&routes, address));
        }
    }

    #[test]
    fn ipv6_lookups_agree_with_a_linear_search(lengths in prop::collection::vec((0u8..=128, any::<u8>()), 0..20), probes in prop::collection::vec(any::<u128>(), 20)) {
        let routes: Vec<_> = lengths.iter().map(|&(length, last)| {
            let address = Ipv6Addr::from(0xfd05 << 112 | u128::from(last) << 60);
            let subnet = IpNet::new(address.into(), length).expect("a length").trunc();
            Route { subnet, ..route("10.0.0.0/8", last) }
        }).collect();
        let table = SubnetTable::build(Vec::new(), routes.clone());
        let near = routes.iter().map(|route| route.subnet.network());
        for address in near.chain(probes.iter().map(|&bits| Ipv6Addr::from(bits).into())) {
            prop_assert_eq!(table.route(address).map(|peer| peer.address), reference(&routes, address));
        }
    }
}

#[test]
fn a_peer_keeps_its_counts_in_later_tables_and_a_new_one_begins_at_zero() {
    let traffic = |table: &SubnetTable, last: u8| {
        let address = IpAddr::from([192, 168, 77, last]);
        table.traffic(address).expect("a peer")
    };
    let mut before = table(&[("10.5.2.0/24", 2), ("10.5.3.0/24", 3)]);
    before.count_on(&SubnetTable::default(), 2);
    let hop = before
        .lookup_v4(u32::from(Ipv4Addr::new(10, 5, 2, 1)))
        .expect("a hop");
    let now = Duration::from_millis(1500);
    before.hop(hop).traffic.sent(0, 1, 100);
    before.hop(hop).traffic.received(1, 2, 300, now);
    let mut after = table(&[("10.5.1.0/24", 1), ("10.5.7.0/24", 2), ("10.5.8.0/24", 2)]);
    after.count_on(&before, 2);
    // A worker that still reads the table before counts for the one after, too.
    before.hop(hop).traffic.sent(1, 1, 50);
    before.hop(hop).traffic.dropped(1, 1);
    before.hop(hop).traffic.learned(0, 1400);
    before.hop(hop).traffic.learned(1, 1300);
    let counted = Traffic {
        sent_packets: 2,
        sent_bytes: 150,
        received_packets: 2,
        received_bytes: 300,
        unsent_packets: 0,
        dropped_packets: 1,
        path_mtu: Some(1300),
        seen: Some(now),
    };
    assert_eq!(traffic(&after, 2), counted);
    assert_eq!(traffic(&after, 1), Traffic::default());
}
