//! Host set-up against the real kernel. Each test runs itself again in a network namespace of its own, which
//! needs root and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

use control::host::external_interface::{Choice, Families, find};
use control::host::firewall::{Firewall, Wanted};
use control::host::links::TunnelSetup;
use control::host::{Netlink, leftovers, monitor};
use control::network::NetworkConfig;
use std::process::Command;

/// Set in the run inside the namespace.
const INSIDE: &str = "CONTROL_TEST_INSIDE";

/// Runs the test's body in a fresh namespace that has lo and eth0 with 192.168.77.1/24 and fd77::1/64.
fn in_namespace(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("ip link set lo up; ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up
            ip addr add 192.168.77.1/24 dev eth0; ip addr add fd77::1/64 dev eth0 nodad; ip route add default via 192.168.77.254");
        return body();
    }
    let program = std::env::current_exe().expect("our own path");
    let mut again = Command::new("unshare");
    again
        .arg("--net")
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    let output = again.output().expect("unshare");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
}

/// Runs shell lines; returns what they print.
fn sh(lines: &str) -> String {
    let output = Command::new("sh").args(["-ec", lines]).output().unwrap();
    assert!(
        output.status.success(),
        "{lines}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("plain text")
}

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
fn leftovers_of_other_backends_go_and_foreign_things_stay() {
    in_namespace(
        "leftovers_of_other_backends_go_and_foreign_things_stay",
        || {
            sh("ip link add flannel.1 type vxlan id 1 dev eth0 dstport 8472; ip link add mine.2 type vxlan id 2 dev eth0 dstport 8472
            ip link add cni0 type bridge; ip link set cni0 up; ip route add 10.5.26.0/24 dev cni0
            ip route add 10.5.77.0/24 via 192.168.77.2; ip route add 10.6.77.0/24 via 192.168.77.2");
            let mut netlink = Netlink::open().unwrap();
            leftovers::remove(&mut netlink, &network(r#","Backend":{"Type":"vxlan"}"#)).unwrap();
            let (links, routes) = (sh("ip -o link"), sh("ip route"));
            assert!(
                !links.contains("flannel.1") && links.contains("mine.2"),
                "{links}"
            );
            assert!(!routes.contains("10.5.77.0/24"), "{routes}");
            assert!(
                routes.contains("10.6.77.0/24") && routes.contains("10.5.26.0/24 dev cni0"),
                "{routes}"
            );
        },
    );
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
