//! Firewall rules that somebody removes are back without anybody looking at a clock.

use benches::Side;

use super::stage::{Stage, wait};

const A: Side = Side::A;
const NETWORK: &str = r#"{"Network":"10.5.0.0/16"}"#;
const NETWORK_NFT: &str = r#"{"Network":"10.5.0.0/16","EnableNFTables":true}"#;

/// Looking from time to time would mend nothing for the next hour.
fn rules_are_restored_when_they_are_removed(config: &str, show: &str, removals: [&str; 2]) {
    let mut stage = Stage::new(config);
    stage.start(A, &["--iface=eth0", "--ip-masq", "--iptables-resync=3600"]);
    wait("a subnet", || stage.subnet(A).is_some());
    let rules = || stage.lab.node(A).run(show).unwrap_or_default();
    let before = rules();
    assert!(before.contains("10.5.0.0/16"), "{before}");
    for removal in removals {
        stage.lab.node(A).run(removal).unwrap();
        wait(removal, || rules() == before);
    }
}

#[test]
fn rules_of_iptables_are_restored_when_they_are_removed() {
    let removals = ["iptables -t nat -F FLANNEL-POSTRTG", "iptables -t nat -F"];
    rules_are_restored_when_they_are_removed(NETWORK, "iptables -t nat -S", removals);
}

#[test]
fn rules_of_nftables_are_restored_when_they_are_removed() {
    // Stock never looks at these again.
    let removals = [
        "nft flush chain ip flannel-ipv4 postrtg",
        "nft delete table ip flannel-ipv4",
    ];
    let show = "nft list table ip flannel-ipv4";
    rules_are_restored_when_they_are_removed(NETWORK_NFT, show, removals);
}
