//! Host set-up against the real kernel. Each test runs itself again in a network namespace of its own, which
//! needs root and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

mod namespace;

use control::host::external_interface::{Choice, Families, find};
use control::host::firewall::{Firewall, Wanted};
use control::host::links::TunnelSetup;
use control::host::{Netlink, leftovers, monitor};
use control::network::NetworkConfig;
use namespace::{in_namespace, sh};

fn network(extra: &str) -> NetworkConfig {
    NetworkConfig::parse(&format!(r#"{{"Network":"10.5.0.0/16"{extra}}}"#)).unwrap()
}

fn tunnel() -> TunnelSetup {
    let nets = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
    TunnelSetup {
        mtu: 1450,
        subnets: nets(["10.5.26.0/24", "fd05:0:0:1::/64"]),
        networks: nets(["10.5.0.0/16", "fd05::/48"]),
    }
}

#[test]
fn the_external_interface_is_found() {
    in_namespace("the_external_interface_is_found", || {
        let mut netlink = Netlink::open().unwrap();
        let both = Families {
            ipv4: true,
            ipv6: true,
        };
        let by_reach = Choice {
            can_reach: "192.168.77.9".parse().ok(),
            ..Choice::default()
        };
        let by_name = Choice {
            interfaces: vec!["eth0".to_owned()],
            ..Choice::default()
        };
        for choice in [by_reach, by_name] {
            let found = find(&mut netlink, &choice, both).unwrap();
            let addresses: Vec<String> = found
                .public_addresses()
                .map(|address| address.to_string())
                .collect();
            assert_eq!(
                (&*found.name, found.mtu, addresses),
                (
                    "eth0",
                    1500,
                    vec!["192.168.77.1".to_owned(), "fd77::1".to_owned()]
                )
            );
        }
        let by_default = find(
            &mut netlink,
            &Choice::default(),
            Families {
                ipv4: true,
                ipv6: false,
            },
        )
        .unwrap();
        assert_eq!(
            by_default.addresses,
            ["192.168.77.1".parse::<std::net::IpAddr>().unwrap()]
        );
    });
}

#[test]
fn the_tunnel_gets_size_addresses_and_routes() {
    in_namespace("the_tunnel_gets_size_addresses_and_routes", || {
        sh("ip tuntap add flannel0 mode tun");
        let mut netlink = Netlink::open().unwrap();
        tunnel().apply(&mut netlink, "flannel0").unwrap();
        let link = sh("ip -o link show flannel0");
        assert!(link.contains("mtu 1450") && link.contains("UP"), "{link}");
        let addresses = sh("ip -o addr show flannel0");
        assert!(
            addresses.contains("inet 10.5.26.0/32") && addresses.contains("inet6 fd05:0:0:1::/128"),
            "{addresses}"
        );
        assert!(sh("ip route").contains("10.5.0.0/16 dev flannel0"));
        assert!(sh("ip -6 route").contains("fd05::/48 dev flannel0"));
        assert_eq!(
            sh("cat /proc/sys/net/ipv4/conf/flannel0/accept_local"),
            "1\n"
        );
    });
}

#[test]
fn what_was_lost_comes_back_when_applied_again() {
    in_namespace("what_was_lost_comes_back_when_applied_again", || {
        // Stock never restores a route that went with a link taken down.
        sh("ip tuntap add flannel0 mode tun");
        let mut netlink = Netlink::open().unwrap();
        tunnel().apply(&mut netlink, "flannel0").unwrap();
        sh(
            "ip link set flannel0 down; ip link set flannel0 up; ip addr del 10.5.26.0/32 dev flannel0",
        );
        assert!(!sh("ip route").contains("10.5.0.0/16"));
        assert!(!tunnel().stands(&mut netlink, "flannel0").unwrap());
        tunnel().apply(&mut netlink, "flannel0").unwrap();
        assert!(tunnel().stands(&mut netlink, "flannel0").unwrap());
        assert!(
            sh("ip route").contains("10.5.0.0/16 dev flannel0")
                && sh("ip addr show flannel0").contains("10.5.26.0/32")
        );
    });
}

#[test]
fn each_kind_of_damage_is_seen() {
    in_namespace("each_kind_of_damage_is_seen", || {
        sh("ip tuntap add flannel0 mode tun");
        let mut netlink = Netlink::open().unwrap();
        let damages = [
            "ip link set flannel0 down",
            "ip addr flush dev flannel0",
            "ip route del 10.5.0.0/16",
            "ip -6 route del fd05::/48",
            "ip link del flannel0",
        ];
        for damage in damages {
            tunnel().apply(&mut netlink, "flannel0").unwrap();
            assert!(tunnel().stands(&mut netlink, "flannel0").unwrap());
            sh(damage);
            assert!(
                !tunnel().stands(&mut netlink, "flannel0").unwrap(),
                "{damage}"
            );
        }
    });
}

#[test]
fn changes_of_the_host_are_noticed() {
    in_namespace("changes_of_the_host_are_noticed", || {
        let (sender, changes) = std::sync::mpsc::channel();
        monitor::watch(move || sender.send(()).unwrap()).unwrap();
        for change in [
            "ip link set eth0 mtu 1400",
            "ip addr add 10.9.9.9/32 dev eth0",
            "ip route add 10.8.0.0/16 dev eth0",
        ] {
            sh(change);
            changes.recv().unwrap();
            while changes.try_recv().is_ok() {}
        }
    });
}

#[test]
fn devices_of_other_backends_go_and_foreign_ones_stay() {
    in_namespace("devices_of_other_backends_go_and_foreign_ones_stay", || {
        sh("ip link add flannel.1 type vxlan id 1 dev eth0 dstport 8472
            ip link add mine.2 type vxlan id 2 dev eth0 dstport 8472; ip addr add 10.5.3.0/32 dev mine.2
            ip link add flannel.3 type vxlan id 3 dev eth0 dstport 8472; ip addr add 10.5.4.0/32 dev flannel.3
            ip link add flannel.4 type vxlan id 4 dev eth0 dstport 8472; ip addr add 10.6.4.0/32 dev flannel.4
            ip link add flannel-v6.1 type vxlan id 1 dev eth0 dstport 4789; ip addr add 10.6.5.0/32 dev flannel-v6.1; ip link set flannel-v6.1 up");
        let mut netlink = Netlink::open().unwrap();
        let network = ["10.5.0.0/16".parse().unwrap()];
        leftovers::remove_devices(&mut netlink, &network, Some(1), &[]).unwrap();
        let links = sh("ip -o link");
        assert!(
            !links.contains("flannel.1") && !links.contains("flannel.3"),
            "{links}"
        );
        assert!(
            links.contains("mine.2")
                && links.contains("flannel.4")
                && links.contains("flannel-v6.1"),
            "{links}"
        );
    });
}

const ALL_RULES: Wanted = Wanted {
    masquerade: true,
    random_ports: true,
    forward: true,
};
const NO_RULES: Wanted = Wanted {
    masquerade: false,
    random_ports: true,
    forward: false,
};

fn firewall(extra: &str, wanted: Wanted) -> Firewall {
    Firewall::new(&network(extra), "10.5.26.0-24".parse().unwrap(), wanted)
}

#[test]
fn iptables_rules_come_come_back_and_go() {
    in_namespace("iptables_rules_come_come_back_and_go", || {
        sh("iptables -A FORWARD -s 172.17.0.0/16 -j ACCEPT");
        let mut rules = firewall("", ALL_RULES);
        rules.set_up().unwrap();
        let ours = || sh("iptables-save | grep flanneld");
        let all = ours();
        assert_eq!(all.lines().count(), 11, "{all}");
        rules.restore().unwrap();
        assert_eq!(ours(), all);
        sh(
            "iptables -t nat -F; iptables -D FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD",
        );
        rules.restore().unwrap();
        assert_eq!(ours(), all);
        firewall("", NO_RULES).set_up().unwrap();
        let left = sh("iptables-save");
        assert!(
            !left.contains("FLANNEL") && left.contains("-s 172.17.0.0/16"),
            "{left}"
        );
    });
}

#[test]
fn ip6tables_rules_come_come_back_and_go() {
    in_namespace("ip6tables_rules_come_come_back_and_go", || {
        let both = |wanted| {
            let extra = r#","EnableIPv6":true,"IPv6Network":"fd05::/48""#;
            let key = "10.5.26.0-24&fd05:0:0:1::-64".parse().unwrap();
            Firewall::new(&network(extra), key, wanted)
        };
        sh("ip6tables -A FORWARD -s fd17::/16 -j ACCEPT");
        let mut rules = both(ALL_RULES);
        rules.set_up().unwrap();
        let ours = || sh("ip6tables-save | grep flanneld; iptables-save | grep flanneld");
        let all = ours();
        assert_eq!(all.lines().count(), 22, "{all}");
        for rule in [
            "-s fd05:0:0:1::/64 -d fd05::/48",
            "-s fd05::/48 ! -d ff00::/8",
        ] {
            assert!(all.contains(rule), "{rule}: {all}");
        }
        rules.restore().unwrap();
        assert_eq!(ours(), all);
        sh("ip6tables -t nat -F FLANNEL-POSTRTG");
        rules.restore().unwrap();
        assert_eq!(ours(), all);
        both(NO_RULES).set_up().unwrap();
        let left = sh("ip6tables-save");
        assert!(
            !left.contains("FLANNEL") && left.contains("-s fd17::/16"),
            "{left}"
        );
    });
}

#[test]
fn nftables_rules_come_come_back_and_replace_those_of_iptables() {
    in_namespace(
        "nftables_rules_come_come_back_and_replace_those_of_iptables",
        || {
            firewall("", ALL_RULES).set_up().unwrap();
            let mut rules = firewall(r#","EnableNFTables":true"#, ALL_RULES);
            rules.set_up().unwrap();
            assert!(!sh("iptables-save").contains("FLANNEL"));
            let all = sh("nft list table ip flannel-ipv4");
            assert_eq!(all.matches("10.5.26.0/24").count(), 3, "{all}");
            sh("nft flush chain ip flannel-ipv4 postrtg");
            rules.restore().unwrap();
            assert_eq!(sh("nft list table ip flannel-ipv4"), all);
            firewall("", NO_RULES).set_up().unwrap();
            assert!(!sh("nft list tables").contains("flannel"));
        },
    );
}
