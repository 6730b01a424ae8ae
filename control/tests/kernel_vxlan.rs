//! The kernel VXLAN backend against the real kernel. What `ip` and `bridge` show must be what they show for stock
//! flannel, word for word.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

mod namespace;

use control::backend::direct::{Direct, Plain, Tunnelled};
use control::backend::kernel_vxlan::KernelVxlan;
use control::backend::peer_routes::{Ground, PeerRoutes};
use control::host::vxlan::{VxlanSetup, device_name, standing_mac};
use control::host::{Netlink, leftovers};
use control::sink::{Peer, PeerForm, TableSink};
use namespace::{in_namespace, sh};
use std::time::Instant;

const MAC: &str = "2e:f1:f0:9a:bf:ba";

fn setup(ipv4: bool) -> VxlanSetup {
    let pick = |four: &str, six: &str| if ipv4 { four } else { six }.to_owned();
    VxlanSetup {
        name: device_name(1, ipv4),
        vni: 1,
        port: 8472,
        link: "eth0".to_owned(),
        local: pick("192.168.77.1", "fd77::1").parse().unwrap(),
        learning: false,
        gbp: false,
        mac: MAC.parse().unwrap(),
        mtu: if ipv4 { 1450 } else { 1430 },
        address: pick("10.5.26.0/32", "fd05:0:0:1::/128").parse().unwrap(),
        network: pick("10.5.0.0/16", "fd05::/48").parse().unwrap(),
    }
}

fn start() -> KernelVxlan {
    KernelVxlan::start(vec![setup(true), setup(false)]).unwrap()
}

fn peer(subnet: &str, endpoint: &str, mac: &str) -> Peer {
    Peer {
        subnet: subnet.parse().unwrap(),
        endpoint: endpoint.parse().unwrap(),
        form: PeerForm::Vxlan(mac.parse().unwrap()),
    }
}

fn both() -> [Peer; 2] {
    [
        peer("10.5.47.0/24", "192.168.77.2", "0a:5b:8b:ba:16:5f"),
        peer("fd05:0:0:50::/64", "fd77::2", "1a:fa:a1:76:a0:8e"),
    ]
}

/// Lines a command prints, without numbers of interfaces and blanks around.
fn lines(command: &str) -> Vec<String> {
    let text = sh(command).replace('\\', " ");
    let bare = |line: &str| {
        let rest = line
            .split_once(": ")
            .filter(|(number, _)| number.parse::<u32>().is_ok());
        rest.map_or(line, |(_, rest)| rest)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines().map(bare).collect()
}

/// Addresses, routes, neighbours and forwarding lines of the devices, sorted.
fn known() -> Vec<String> {
    let mut known = lines(
        "ip -o addr show scope global | sed 's/ *valid_lft.*//; s/ tentative//'
        ip route; ip -6 route; ip neigh show nud permanent; bridge fdb show",
    );
    known.retain(|line| line.contains("flannel") && !line.contains("proto kernel"));
    known.sort();
    known
}

fn number() -> String {
    sh("ip -o link show flannel.1 | cut -d: -f1")
}

fn golden(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn devices_read_as_stocks_do() {
    in_namespace("devices_read_as_stocks_do", || {
        start();
        let shown = lines("ip -d link show flannel.1; ip -d link show flannel-v6.1");
        let wanted: Vec<&str> = include_str!("golden/vxlan-device.txt").lines().collect();
        // Newer tools tell more at the end of a line.
        assert_eq!(shown.len(), wanted.len(), "{shown:#?}");
        for (shown, wanted) in shown.iter().zip(&wanted) {
            let words = wanted
                .split(' ')
                .filter(|word| !shown.split(' ').any(|known| known == *word));
            assert_eq!(words.collect::<Vec<_>>(), Vec::<&str>::new(), "{shown}");
        }
        let switch = |name: &str| sh(&format!("cat /proc/sys/net/ipv6/conf/{name}/accept_ra"));
        assert_eq!(
            (switch("flannel.1"), switch("flannel-v6.1")),
            ("0\n".to_owned(), "0\n".to_owned())
        );
    });
}

#[test]
fn what_is_known_of_peers_reads_as_stocks_does() {
    in_namespace("what_is_known_of_peers_reads_as_stocks_does", || {
        start().replace(&both()).unwrap();
        assert_eq!(known(), golden(include_str!("golden/vxlan-peers.txt")));
    });
}

#[test]
fn an_old_forwarding_entry_goes_when_a_peers_mac_changes() {
    // Stock leaves it.
    in_namespace(
        "an_old_forwarding_entry_goes_when_a_peers_mac_changes",
        || {
            let mut sink = start();
            sink.replace(&both()).unwrap();
            sink.replace(&[peer("10.5.47.0/24", "192.168.77.2", "0a:00:00:00:00:01")])
                .unwrap();
            let all = known().join("\n");
            assert!(
                !all.contains("0a:5b:8b:ba:16:5f") && !all.contains("1a:fa"),
                "{all}"
            );
            assert_eq!(all.matches("0a:00:00:00:00:01").count(), 2, "{all}");
            sink.replace(&[peer("10.5.47.0/24", "192.168.77.3", "0a:00:00:00:00:01")])
                .unwrap();
            assert!(
                known().contains(
                    &"0a:00:00:00:00:01 dev flannel.1 dst 192.168.77.3 self permanent".to_owned()
                ),
                "{:?}",
                known()
            );
            sink.replace(&[]).unwrap();
            assert_eq!(known().len(), 2, "{:?}", known());
        },
    );
}

#[test]
fn whatever_is_deleted_comes_back_with_the_same_mac() {
    // Stock makes the device again with another address, and none of the rest.
    in_namespace("whatever_is_deleted_comes_back_with_the_same_mac", || {
        let mut sink = start();
        sink.replace(&both()).unwrap();
        let all = known();
        assert!(!sink.restore().unwrap());
        for damage in [
            "ip link del flannel.1",
            "ip link del flannel-v6.1",
            "ip addr del 10.5.26.0/32 dev flannel.1",
            "ip route del 10.5.47.0/24",
            "ip neigh del 10.5.47.0 dev flannel.1",
            "ip neigh replace 10.5.47.0 lladdr 0a:00:00:00:00:01 dev flannel.1 nud permanent",
            "bridge fdb del 0a:5b:8b:ba:16:5f dev flannel.1",
            "bridge fdb replace 0a:5b:8b:ba:16:5f dev flannel.1 dst 192.168.77.66",
            "ip link set flannel.1 down",
            "ip link set flannel.1 address 0a:00:00:00:00:02",
        ] {
            sh(damage);
            assert!(sink.restore().unwrap(), "{damage}");
            assert_eq!(known(), all, "{damage}");
            assert!(sh("ip link show flannel.1").contains(MAC), "{damage}");
            assert!(!sink.restore().unwrap(), "{damage}");
        }
        sh("ip link set flannel.1 mtu 1400");
        assert!(
            !sink.restore().unwrap(),
            "operators lower it for narrow paths"
        );
    });
}

#[test]
fn a_device_whose_interface_went_and_came_is_made_again() {
    in_namespace(
        "a_device_whose_interface_went_and_came_is_made_again",
        || {
            let mut sink = start();
            sink.replace(&both()).unwrap();
            let all = known();
            sh("ip link del eth0");
            let complaint = sink.restore().unwrap_err().to_string();
            assert!(
                complaint.contains("there is no interface eth0"),
                "{complaint}"
            );
            sh(
                "ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up
            ip addr add 192.168.77.1/24 dev eth0; ip addr add fd77::1/64 dev eth0 nodad",
            );
            assert!(sink.restore().unwrap());
            assert_eq!(known(), all);
        },
    );
}

#[test]
fn a_restart_takes_the_device_over_and_cleans_what_no_peer_needs() {
    in_namespace(
        "a_restart_takes_the_device_over_and_cleans_what_no_peer_needs",
        || {
            start().replace(&both()).unwrap();
            sh("ip neigh add 10.5.9.0 lladdr 0a:00:00:00:00:09 dev flannel.1 nud permanent; bridge fdb add 0a:00:00:00:00:09 dev flannel.1 dst 192.168.77.9
            ip route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink; ip addr add 10.5.99.0/32 dev flannel.1; ip addr add 10.99.0.1/32 dev flannel.1");
            let before = number();
            let mut netlink = Netlink::open().unwrap();
            assert_eq!(standing_mac(&mut netlink, 1).unwrap(), MAC.parse().ok());
            let mut sink = start();
            assert!(
                known().iter().any(|line| line.starts_with("10.5.9.0/24")),
                "nothing of peers goes before there is a table"
            );
            sink.replace(&both()).unwrap();
            let all = known().join("\n");
            assert!(
                !all.contains("10.5.9.0") && !all.contains("10.5.99.0"),
                "{all}"
            );
            assert!(
                all.contains("10.99.0.1/32"),
                "an address of others stays: {all}"
            );
            assert_eq!(number(), before);
        },
    );
}

#[test]
fn a_device_that_differs_is_made_anew_with_the_same_mac() {
    in_namespace(
        "a_device_that_differs_is_made_anew_with_the_same_mac",
        || {
            start();
            for change in [
                |setup: &mut VxlanSetup| setup.port = 4789,
                |setup: &mut VxlanSetup| setup.local = "192.168.77.7".parse().unwrap(),
                |setup: &mut VxlanSetup| setup.learning = true,
                |setup: &mut VxlanSetup| setup.gbp = true,
            ] {
                let (before, mut wanted) = (number(), setup(true));
                change(&mut wanted);
                sh("ip addr replace 192.168.77.7/24 dev eth0");
                for _ in 0..2 {
                    KernelVxlan::start(vec![wanted.clone()]).unwrap();
                }
                assert_ne!(number(), before, "{wanted:?}");
                assert!(sh("ip link show flannel.1").contains(MAC));
            }
            sh(
                "ip link del flannel.1; ip link add flannel.1 type dummy || ip link add flannel.1 type bridge",
            );
            start();
            assert!(sh("ip -d link show flannel.1").contains("vxlan id 1"));
        },
    );
}

#[test]
fn the_mtu_of_a_device_that_is_there_follows_the_config_without_making_it_anew() {
    // Stock keeps the old size, and tells container runtimes the new one.
    in_namespace(
        "the_mtu_of_a_device_that_is_there_follows_the_config_without_making_it_anew",
        || {
            start();
            let before = number();
            let smaller = VxlanSetup {
                mtu: 1250,
                ..setup(true)
            };
            KernelVxlan::start(vec![smaller]).unwrap();
            assert!(sh("ip link show flannel.1").contains("mtu 1250"));
            assert_eq!(number(), before);
        },
    );
}

#[test]
fn two_nodes_with_one_mac_cost_one_complaint_and_no_other_peer() {
    in_namespace(
        "two_nodes_with_one_mac_cost_one_complaint_and_no_other_peer",
        || {
            let mut sink = start();
            let complaint = sink
                .replace(&[
                    peer("10.5.47.0/24", "192.168.77.2", "0a:5b:8b:ba:16:5f"),
                    peer("10.5.48.0/24", "192.168.77.3", "0a:5b:8b:ba:16:5f"),
                    peer("10.5.49.0/24", "192.168.77.4", "0a:5b:8b:ba:16:60"),
                ])
                .unwrap_err()
                .to_string();
            assert!(
                complaint.contains("10.5.48.0/24") && complaint.contains("192.168.77.3"),
                "{complaint}"
            );
            let all = known().join("\n");
            assert!(
                all.contains("10.5.47.0/24")
                    && all.contains("10.5.49.0/24")
                    && !all.contains("10.5.48.0"),
                "{all}"
            );
        },
    );
}

#[test]
fn a_peer_that_becomes_a_neighbour_leaves_nothing_in_the_device() {
    // Stock leaves neighbour and forwarding entry.
    in_namespace(
        "a_peer_that_becomes_a_neighbour_leaves_nothing_in_the_device",
        || {
            let ground = Ground {
                networks: vec!["10.5.0.0/16".parse().unwrap()],
                own: vec!["10.5.26.0/24".parse().unwrap()],
                blackhole: false,
                ..Ground::default()
            };
            let routes = PeerRoutes::new(ground).unwrap();
            let tunnel = KernelVxlan::start(vec![setup(true)]).unwrap();
            let mut sink = Direct::new(routes, Plain::Neighbours, tunnel, Tunnelled::Others);
            let far = "ip route replace 192.168.77.2/32 via 192.168.77.254";
            sh(far);
            sink.replace(&[peer("10.5.47.0/24", "192.168.77.2", "0a:5b:8b:ba:16:5f")])
                .unwrap();
            let through: Vec<String> = golden(include_str!("golden/vxlan-peers.txt"))
                .into_iter()
                .filter(|line| !line.contains("v6"))
                .collect();
            assert_eq!(known(), through);

            for _ in 0..2 {
                sh("ip route del 192.168.77.2/32");
                assert!(!sink.restore().unwrap());
                assert_eq!(
                    known(),
                    ["flannel.1 inet 10.5.26.0/32 scope global flannel.1"]
                );
                assert!(sh("ip route").contains("10.5.47.0/24 via 192.168.77.2 dev eth0"));
                sh(far);
                assert!(!sink.restore().unwrap());
                assert_eq!(known(), through);
            }
        },
    );
}

#[test]
fn ten_thousand_peers_move_between_the_device_and_plain_routes() {
    in_namespace(
        "ten_thousand_peers_move_between_the_device_and_plain_routes",
        || {
            let whole = VxlanSetup {
                address: "10.200.0.0/32".parse().unwrap(),
                network: "10.0.0.0/8".parse().unwrap(),
                ..setup(true)
            };
            let ground = Ground {
                networks: vec![whole.network],
                own: vec!["10.200.0.0/24".parse().unwrap()],
                blackhole: false,
                ..Ground::default()
            };
            let peers: Vec<Peer> = (0..10_000)
                .map(|n| {
                    let (high, low) = (n / 256, n % 256);
                    let mac = format!("0a:00:00:00:{high:02x}:{low:02x}");
                    let endpoint = format!("172.16.{high}.{low}");
                    peer(&format!("10.{high}.{low}.0/24"), &endpoint, &mac)
                })
                .collect();
            let routes = PeerRoutes::new(ground).unwrap();
            let tunnel = KernelVxlan::start(vec![whole]).unwrap();
            let mut sink = Direct::new(routes, Plain::Neighbours, tunnel, Tunnelled::Others);
            let count = |pattern: &str| {
                sh(&format!(
                    "{{ ip route; ip neigh; bridge fdb; }} | grep -c '{pattern}' || true"
                ))
                .trim()
                .to_owned()
            };
            let told = |what: &str, started: Instant| {
                println!("10,000 peers {what} in {:?}", started.elapsed())
            };
            let started = Instant::now();
            sink.replace(&peers).unwrap();
            told("put into the device", started);
            assert_eq!(count("onlink\\|lladdr 0a\\|dst 172.16"), "30000");
            let started = Instant::now();
            assert!(!sink.restore().unwrap());
            told("found unchanged", started);
            sh("ip addr add 172.16.255.1/16 dev eth0");
            let started = Instant::now();
            assert!(!sink.restore().unwrap());
            told("moved to plain routes", started);
            assert_eq!(count("onlink\\|lladdr 0a\\|dst 172.16"), "0");
            assert_eq!(count("via 172.16"), "10000");
        },
    );
}

#[test]
fn a_node_with_another_backend_removes_the_device() {
    in_namespace("a_node_with_another_backend_removes_the_device", || {
        start().replace(&both()).unwrap();
        let networks = [setup(true).network, setup(false).network];
        leftovers::remove_devices(&mut Netlink::open().unwrap(), &networks, None, &[]).unwrap();
        assert_eq!(known(), Vec::<String>::new());
    });
}
