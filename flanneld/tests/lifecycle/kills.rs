//! A daemon that is killed at any moment leaves a host that works, and files that are whole.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use benches::Side;

use super::stage::{Stage, wait};

const A: Side = Side::A;
const NETWORK: &str = r#"{"Network":"10.5.0.0/16"}"#;
const NETWORK_NFT: &str = r#"{"Network":"10.5.0.0/16","EnableNFTables":true}"#;
const FLAGS: [&str; 3] = ["--iface=eth0", "--ip-masq", "--ip-blackhole-route"];
/// A start takes less than this, also on a busy machine and as the tests build it.
const START: Duration = Duration::from_millis(600);

/// Moments at which a start is cut off; `FAULTS_LONG` asks for the many.
fn moments() -> u32 {
    match std::env::var_os("FAULTS_LONG") {
        None => 30,
        Some(_) => 200,
    }
}

/// What a host has besides the device, which is of one process.
fn state(stage: &Stage) -> String {
    let shown = [
        "ip rule",
        "ip -6 rule",
        "ip route show table all type unicast",
        "ip route show type blackhole",
        "iptables-save",
        "nft --stateless list ruleset",
    ];
    let node = stage.lab.node(A);
    let shown = shown.map(|line| node.run(line).unwrap_or_default());
    // Counters and dates are nobody's state, nor is the order in which devices were made.
    let lines = shown.iter().flat_map(|text| text.lines());
    let mut lines: Vec<_> = lines.filter(|line| !line.starts_with(['#', ':'])).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The subnet file is whole where there is one; returns the subnet.
fn assert_whole(stage: &Stage) -> Option<String> {
    let text = fs::read_to_string(stage.subnet_file(A)).ok()?;
    let names = text.lines().map(|line| line.split('=').next().unwrap());
    let names: Vec<_> = names.collect();
    let wanted = [
        "FLANNEL_NETWORK",
        "FLANNEL_SUBNET",
        "FLANNEL_MTU",
        "FLANNEL_IPMASQ",
    ];
    assert_eq!(names, wanted, "{text}");
    assert!(text.ends_with('\n'), "{text}");
    text.lines().nth(1).map(str::to_owned)
}

/// Records with our address.
fn records(stage: &Stage) -> usize {
    let shown = stage
        .etcd
        .ctl(&["get", "--prefix", "/coreos.com/network/subnets/"]);
    shown.unwrap().matches("192.168.77.1\"").count()
}

fn a_daemon_killed_at_any_moment_leaves_one_record_and_no_litter(config: &str) {
    let mut stage = Stage::new(config);
    let mut subnet = None;
    for moment in 0..moments() {
        stage.start(A, &FLAGS);
        sleep(START * moment / moments());
        stage.kill(A);
        let found = assert_whole(&stage);
        assert!(
            subnet.is_none() || found == subnet,
            "{found:?} after {subnet:?}"
        );
        subnet = found;
        assert!(records(&stage) <= 1, "{}", stage.log(A));
    }
    let settled = |stage: &mut Stage| {
        stage.start(A, &FLAGS);
        stage.wait_for(A, "peer subnets");
        wait("the state", || stage.state_file(A).exists());
        state(stage)
    };
    let after = settled(&mut stage);
    assert_eq!(records(&stage), 1);
    let litter = fs::read_dir(stage.directory(A)).unwrap().flatten();
    let mut litter: Vec<_> = litter.map(|file| file.file_name()).collect();
    litter.sort();
    let known = [
        "log",
        "subnet.env",
        "subnet.env.sock",
        "subnet.env.state",
        "subnet.env.takeover",
    ];
    assert_eq!(litter, known);
    // A host on which nothing was ever killed has the same.
    let mut fresh = Stage::new(config);
    let ours = |text: &str, stage: &Stage| {
        let subnet = stage.subnet(A).unwrap();
        let own = subnet.base.to_string();
        let own = own.strip_suffix(".0").unwrap();
        text.replace(&format!("{own}."), "OWN.")
    };
    let expected = settled(&mut fresh);
    assert_eq!(ours(&after, &stage), ours(&expected, &fresh));
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_one_record_and_no_litter_with_iptables() {
    a_daemon_killed_at_any_moment_leaves_one_record_and_no_litter(NETWORK);
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_one_record_and_no_litter_with_nftables() {
    a_daemon_killed_at_any_moment_leaves_one_record_and_no_litter(NETWORK_NFT);
}
