//! The backends the kernel carries out, against the real kernel. What `ip` shows must be what it shows for stock
//! flannel, word for word.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

mod namespace;

use control::backend::alloc::Alloc;
use control::backend::direct::{Direct, Plain, Tunnelled};
use control::backend::host_gw::HostGw;
use control::backend::peer_routes::{Ground, PeerRoutes};
use control::sink::{Peer, PeerForm, TableSink};
use ipnet::IpNet;
use namespace::{in_namespace, sh};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ground() -> Ground {
    Ground {
        networks: nets(&["10.5.0.0/16", "fd05::/48"]),
        own: nets(&["10.5.26.0/24", "fd05:0:0:1::/64"]),
        blackhole: false,
        ..Ground::default()
    }
}

fn peer(subnet: &str, endpoint: &str) -> Peer {
    Peer {
        subnet: subnet.parse().unwrap(),
        endpoint: endpoint.parse().unwrap(),
        form: PeerForm::Plain,
    }
}

fn host_gw() -> HostGw {
    HostGw::new(PeerRoutes::new(ground()).unwrap(), "eth0")
}

/// Lines of `ip route` that speak of the overlay network, in both families.
fn routes() -> Vec<String> {
    let all = sh("ip route; ip -6 route");
    let overlay = all
        .lines()
        .filter(|line| line.contains("10.5.") || line.contains("fd05:"));
    overlay.map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn host_gw_routes_read_as_stocks_do() {
    in_namespace("host_gw_routes_read_as_stocks_do", || {
        let peers = [
            peer("10.5.58.0/24", "192.168.77.2"),
            peer("fd05:0:0:50::/64", "fd77::2"),
        ];
        host_gw().replace(&peers).unwrap();
        assert_eq!(
            routes(),
            include_str!("golden/host-gw-routes.txt")
                .lines()
                .collect::<Vec<_>>()
        );
    });
}

#[test]
fn host_gw_follows_the_table() {
    in_namespace("host_gw_follows_the_table", || {
        let mut sink = host_gw();
        sink.replace(&[
            peer("10.5.58.0/24", "192.168.77.2"),
            peer("10.5.59.0/24", "192.168.77.3"),
        ])
        .unwrap();
        // A peer has moved, one has gone, one has come.
        sink.replace(&[
            peer("10.5.58.0/24", "192.168.77.9"),
            peer("10.5.60.0/24", "192.168.77.4"),
        ])
        .unwrap();
        assert_eq!(
            routes(),
            [
                "10.5.58.0/24 via 192.168.77.9 dev eth0",
                "10.5.60.0/24 via 192.168.77.4 dev eth0"
            ]
        );
    });
}

#[test]
fn routes_of_vanished_leases_from_before_a_restart_are_cleaned_up() {
    // Stock never does, as nobody remembers them.
    in_namespace(
        "routes_of_vanished_leases_from_before_a_restart_are_cleaned_up",
        || {
            sh("ip route add 10.5.58.0/24 via 192.168.77.2; ip route add 10.5.59.0/24 via 192.168.77.3
            ip route add 10.5.60.0/24 via 192.168.77.3 proto static; ip route add 10.5.61.0/24 via 192.168.77.3 metric 50
            ip route add 10.5.26.128/25 via 192.168.77.5; ip route add 10.6.0.0/24 via 192.168.77.5
            ip link add cni0 type bridge; ip addr add 10.5.26.1/24 dev cni0; ip link set cni0 up; ip route add 10.5.26.0/24 via 192.168.77.8 metric 7");
            let foreign = sh("ip route | grep -v -e 10.5.58.0 -e 10.5.59.0");
            let mut sink = host_gw();
            assert!(
                sh("ip route").contains("10.5.59.0/24"),
                "nothing goes before there is a table"
            );
            assert!(!sink.restore().unwrap());
            assert!(
                sh("ip route").contains("10.5.59.0/24"),
                "nothing goes before there is a table"
            );
            sink.replace(&[peer("10.5.58.0/24", "192.168.77.2")])
                .unwrap();
            assert!(sh("ip route").contains("10.5.58.0/24 via 192.168.77.2 dev eth0"));
            assert_eq!(sh("ip route | grep -v 10.5.58.0"), foreign);
        },
    );
}

#[test]
fn a_route_somebody_removed_comes_back() {
    in_namespace("a_route_somebody_removed_comes_back", || {
        let mut sink = host_gw();
        sink.replace(&[peer("10.5.58.0/24", "192.168.77.2")])
            .unwrap();
        let all = routes();
        assert!(!sink.restore().unwrap());
        for damage in [
            "ip route del 10.5.58.0/24",
            "ip route replace 10.5.58.0/24 via 192.168.77.66",
            "ip link set eth0 down; ip link set eth0 up",
        ] {
            sh(damage);
            assert!(sink.restore().unwrap(), "{damage}");
            assert_eq!(routes(), all, "{damage}");
        }
    });
}

#[test]
fn a_node_behind_a_router_costs_host_gw_one_complaint_and_no_other_route() {
    in_namespace(
        "a_node_behind_a_router_costs_host_gw_one_complaint_and_no_other_route",
        || {
            let mut sink = host_gw();
            let complaint = sink
                .replace(&[
                    peer("10.5.3.0/24", "192.168.102.1"),
                    peer("10.5.58.0/24", "192.168.77.2"),
                ])
                .unwrap_err()
                .to_string();
            assert!(
                complaint.contains("route 10.5.3.0/24 via 192.168.102.1")
                    && complaint.contains("one link"),
                "{complaint}"
            );
            assert_eq!(routes(), ["10.5.58.0/24 via 192.168.77.2 dev eth0"]);
            // It is asked for again, and is no damage done by others meanwhile.
            assert!(sink.restore().is_err());
            sh("ip addr add 192.168.102.9/24 dev eth0");
            assert!(!sink.restore().unwrap());
            assert_eq!(routes().len(), 2);
        },
    );
}

#[test]
fn ten_thousand_host_gw_routes_are_set_changed_and_removed() {
    in_namespace(
        "ten_thousand_host_gw_routes_are_set_changed_and_removed",
        || {
            let ground = Ground {
                networks: nets(&["10.0.0.0/8"]),
                own: nets(&["10.200.0.0/24"]),
                blackhole: false,
                ..Ground::default()
            };
            let mut sink = HostGw::new(PeerRoutes::new(ground).unwrap(), "eth0");
            let table = |gateway: &str| {
                let subnets = (0..10_000).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256));
                subnets.map(|subnet| peer(&subnet, gateway)).collect()
            };
            let steps: [(&str, Vec<Peer>, &str); 4] = [
                ("set", table("192.168.77.2"), "10000"),
                ("left as they are", table("192.168.77.2"), "10000"),
                ("moved", table("192.168.77.3"), "10000"),
                ("removed", Vec::new(), "0"),
            ];
            for (what, peers, count) in steps {
                let started = Instant::now();
                sink.replace(&peers).unwrap();
                println!("10,000 routes {what} in {:?}", started.elapsed());
                let standing = sh("ip route | grep -c '^10[.]' || true");
                assert_eq!(standing.trim(), count);
            }
        },
    );
}

/// Subnets of a table, and what `ip route` said when it came.
type Given = (Vec<String>, Vec<String>);

/// A tunnel that keeps the tables it is given.
#[derive(Clone, Default)]
struct Tunnel(Rc<RefCell<Vec<Given>>>);

impl TableSink for Tunnel {
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
        let subnets = peers.iter().map(|peer| peer.subnet.to_string()).collect();
        self.0.borrow_mut().push((subnets, routes()));
        Ok(())
    }

    fn restore(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

fn direct(plain: Plain, tunnelled: Tunnelled) -> (Direct<Tunnel>, Tunnel) {
    let tunnel = Tunnel::default();
    let routes = PeerRoutes::new(ground()).unwrap();
    (
        Direct::new(routes, plain, tunnel.clone(), tunnelled),
        tunnel,
    )
}

#[test]
fn neighbours_are_reached_directly_and_others_through_the_tunnel() {
    in_namespace(
        "neighbours_are_reached_directly_and_others_through_the_tunnel",
        || {
            // Two that no packet reaches, one behind the default route, one on the link.
            sh("ip route add blackhole 192.168.8.8/32; ip route add unreachable 192.168.9.9/32");
            let (mut sink, tunnel) = direct(Plain::Neighbours, Tunnelled::Others);
            sink.replace(&[
                peer("10.5.3.0/24", "192.168.102.1"),
                peer("10.5.8.0/24", "192.168.8.8"),
                peer("10.5.9.0/24", "192.168.9.9"),
                peer("10.5.58.0/24", "192.168.77.2"),
                peer("fd05:0:0:50::/64", "fd77::2"),
            ])
            .unwrap();
            assert_eq!(
                tunnel.0.borrow()[0].0,
                ["10.5.3.0/24", "10.5.8.0/24", "10.5.9.0/24"]
            );
            assert_eq!(
                routes(),
                include_str!("golden/host-gw-routes.txt")
                    .lines()
                    .collect::<Vec<_>>()
            );
        },
    );
}

#[test]
fn a_peer_that_leaves_the_link_keeps_its_route_until_the_tunnel_has_it() {
    // Stock decides once and for all.
    in_namespace(
        "a_peer_that_leaves_the_link_keeps_its_route_until_the_tunnel_has_it",
        || {
            let (mut sink, tunnel) = direct(Plain::Neighbours, Tunnelled::Others);
            sink.replace(&[
                peer("10.5.3.0/24", "192.168.102.1"),
                peer("10.5.58.0/24", "192.168.77.2"),
            ])
            .unwrap();
            sh(
                "ip addr add 192.168.102.9/24 dev eth0; ip route add 192.168.77.2/32 via 192.168.77.254",
            );
            assert!(!sink.restore().unwrap(), "a change is no damage");
            let tables = tunnel.0.borrow();
            let (subnets, standing) = tables.last().unwrap();
            assert_eq!(*subnets, ["10.5.58.0/24"]);
            assert_eq!(standing.len(), 2, "{standing:?}");
            assert_eq!(routes(), ["10.5.3.0/24 via 192.168.102.1 dev eth0"]);
        },
    );
}

#[test]
fn routes_of_an_earlier_backend_carry_on_until_the_tunnel_has_the_peers() {
    in_namespace(
        "routes_of_an_earlier_backend_carry_on_until_the_tunnel_has_the_peers",
        || {
            sh("ip route add 10.5.58.0/24 via 192.168.77.2");
            let (mut sink, tunnel) = direct(Plain::Never, Tunnelled::All);
            sink.replace(&[peer("10.5.58.0/24", "192.168.77.2")])
                .unwrap();
            let tables = tunnel.0.borrow();
            assert_eq!(
                tables[0],
                (
                    vec!["10.5.58.0/24".to_owned()],
                    vec!["10.5.58.0/24 via 192.168.77.2 dev eth0".to_owned()]
                )
            );
            assert_eq!(routes(), Vec::<String>::new());
        },
    );
}

#[test]
fn a_tunnel_for_the_whole_network_knows_neighbours_too() {
    // The other side may still send through the tunnel.
    in_namespace(
        "a_tunnel_for_the_whole_network_knows_neighbours_too",
        || {
            let (mut sink, tunnel) = direct(Plain::Neighbours, Tunnelled::All);
            sink.replace(&[peer("10.5.58.0/24", "192.168.77.2")])
                .unwrap();
            assert_eq!(tunnel.0.borrow()[0].0, ["10.5.58.0/24"]);
            assert_eq!(routes(), ["10.5.58.0/24 via 192.168.77.2 dev eth0"]);
        },
    );
}

#[test]
fn a_blackhole_route_stands_beside_the_bridges_and_never_wins_over_it() {
    // Stock fails to add it, and says so every few seconds; put first, it would cut the containers off.
    in_namespace(
        "a_blackhole_route_stands_beside_the_bridges_and_never_wins_over_it",
        || {
            let ground = Ground {
                blackhole: true,
                ..ground()
            };
            let mut sink = Alloc::new(PeerRoutes::beside_others(ground).unwrap());
            sink.replace(&[]).unwrap();
            sh("! ip route get 10.5.26.7; ! ip route get fd05:0:0:1::7");
            sh(
                "ip link add cni0 type bridge; ip link set cni0 up; ip addr add 10.5.26.1/24 dev cni0; ip addr add fd05:0:0:1::1/64 dev cni0 nodad",
            );
            for to in ["10.5.26.7", "fd05:0:0:1::7"] {
                let way = sh(&format!("ip route get {to}"));
                assert!(way.contains("dev cni0"), "{way}");
            }
            assert!(!sink.restore().unwrap());
            sh("ip route del blackhole 10.5.26.0/24 metric 4294967295");
            assert!(sink.restore().unwrap());
            assert!(
                routes()
                    .iter()
                    .any(|route| route == "blackhole 10.5.26.0/24 metric 4294967295")
            );
        },
    );
}

#[test]
fn alloc_leaves_all_routes_alone() {
    in_namespace("alloc_leaves_all_routes_alone", || {
        sh("ip route add 10.5.58.0/24 via 192.168.77.2");
        let mut sink = Alloc::new(PeerRoutes::beside_others(ground()).unwrap());
        sink.replace(&[peer("10.5.59.0/24", "192.168.77.3")])
            .unwrap();
        assert_eq!(routes(), ["10.5.58.0/24 via 192.168.77.2 dev eth0"]);
    });
}
