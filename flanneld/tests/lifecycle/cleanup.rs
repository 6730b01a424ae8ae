//! `flanneld cleanup` takes away everything of ours and nothing of others.

use std::process::Output;

use benches::Side;

use super::stage::{Stage, UDP, exists, wait};

const A: Side = Side::A;

fn cleanup(stage: &Stage, flags: &[&str]) -> Output {
    let node = stage.lab.node(A);
    let mut command = node.command(env!("CARGO_BIN_EXE_flanneld")).unwrap();
    // The word comes first, then what the daemon was given.
    command.arg("cleanup");
    command.args(stage.command(A).get_args());
    command.args(flags).output().unwrap()
}

/// What a successful clean-up prints.
fn cleaned(stage: &Stage, flags: &[&str]) -> String {
    let output = cleanup(stage, flags);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Everything on node A a daemon could have changed, without what the kernel counts.
fn host(stage: &Stage) -> Vec<String> {
    let questions = [
        "ip -oneline link show",
        "ip -oneline -4 addr show",
        "ip -4 route show table main",
        "iptables-save -t nat",
        "iptables-save -t filter",
        "nft list tables",
    ];
    let answer = |question: &&str| stage.lab.node(A).run(question).unwrap();
    let answers: Vec<String> = questions.iter().map(answer).collect();
    let lines = answers.iter().flat_map(|answer| answer.lines());
    let counted = |line: &&str| line.starts_with(['#', ':']) || line.contains("cni0");
    lines
        .filter(|line| !counted(line))
        .map(str::to_owned)
        .collect()
}

/// What other people have on the host.
fn add_others(stage: &Stage) {
    stage.ip(
        A,
        "tuntap add mode tun name other0\n\
         tuntap add mode tun name flannelx\n\
         link add vx7 type vxlan id 7 dev eth0 dstport 4789\n\
         route add 10.66.1.0/24 via 192.168.77.2\n\
         route add blackhole 10.66.2.0/24",
    );
    let node = stage.lab.node(A);
    node.run("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE")
        .unwrap();
    node.run("iptables -A FORWARD -s 172.17.0.0/16 -j ACCEPT")
        .unwrap();
    node.run("nft add table ip other").unwrap();
}

/// What daemons of several kinds and ages have left.
fn add_leftovers(stage: &Stage) {
    let own = stage.subnet(A).unwrap();
    stage.ip(
        A,
        &format!(
            "tuntap add mode tun name flannel0\n\
             link add flannel.1 type vxlan id 1 dev eth0 dstport 8472\n\
             route add 10.5.201.0/24 via 192.168.77.2\n\
             route add blackhole {own} metric 9999"
        ),
    );
    let node = stage.lab.node(A);
    for rule in [
        "iptables -t nat -A POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 -j RETURN",
        "iptables -A FORWARD -s 10.5.0.0/16 -j ACCEPT",
        "nft add table ip flannel-ipv4",
        "nft add table ip6 flannel-ipv6",
    ] {
        node.run(rule).unwrap();
    }
}

#[test]
fn everything_of_ours_goes_and_nothing_of_others() {
    // Stock leaves everything, and old things win over new ones.
    let mut stage = Stage::new(UDP);
    add_others(&stage);
    // Looking at the tables makes them; they are there before and after.
    host(&stage);
    let before = host(&stage);
    stage.start(A, &["--iface=eth0", "--ip-masq"]);
    wait("a subnet", || stage.subnet(A).is_some());
    wait("a state", || stage.state_file(A).exists());
    stage.kill(A);
    wait("the end of its device", || !exists(&stage, A, "flannel0"));
    add_leftovers(&stage);
    let littered = host(&stage);

    let told = cleaned(&stage, &["--dry-run"]);
    assert_eq!(told.matches("would remove").count(), 14, "{told}");
    assert_eq!(host(&stage), littered, "a dry run changes nothing");

    let told = cleaned(&stage, &[]);
    assert_eq!(told.matches("removed").count(), 14, "{told}");
    assert_eq!(host(&stage), before);
    assert!(!stage.subnet_file(A).exists() && !stage.state_file(A).exists());

    let told = cleaned(&stage, &[]);
    assert_eq!(told, "nothing is left of flannel on this host\n");
}

#[test]
fn a_clean_up_while_a_daemon_runs_is_refused() {
    let mut stage = Stage::up(UDP);
    let output = cleanup(&stage, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let process = stage.id(A);
    assert!(said.contains(&format!("(process {process})")), "{said}");
    assert!(cleaned(&stage, &["--dry-run"]).contains("would remove device flannel0"));
    stage.wait_until_connected();
    stage.assert_running(A);
}

#[test]
fn the_lease_stays_unless_it_is_to_be_released() {
    let mut stage = Stage::up(UDP);
    let (subnet, record) = (stage.subnet(A).unwrap(), stage.record(A));
    let key = format!("/coreos.com/network/subnets/{}-24", subnet.base);
    let stands = |stage: &Stage| {
        stage
            .etcd
            .ctl(&["get", "--print-value-only", &key])
            .unwrap()
    };
    wait("a state", || stage.state_file(A).exists());
    stage.stop(A);
    let told = cleaned(&stage, &["--release-lease", "--dry-run"]);
    assert!(told.contains("would remove lease"), "{told}");
    assert_eq!(stands(&stage).trim(), record);
    let taken = r#"{"PublicIP":"192.168.77.99","PublicIPv6":null}"#;
    stage.etcd.put(&key, taken).unwrap();
    let told = cleaned(&stage, &["--release-lease", "--dry-run"]);
    assert!(told.contains("stays: another node holds it"), "{told}");
    stage.etcd.put(&key, &record).unwrap();
    let told = cleaned(&stage, &["--release-lease", "--dry-run"]);
    assert!(told.contains("stays: it is a reservation"), "{told}");

    stage.start(A, &["--iface=eth0"]);
    wait("the lease", || stage.times(A, "lease acquired") > 0);
    stage.etcd.ctl(&["del", &key]).unwrap();
    stage.wait_for(A, "is in the registry again");
    stage.stop(A);
    let told = cleaned(&stage, &["--release-lease"]);
    assert!(told.contains("removed lease"), "{told}");
    assert_eq!(stands(&stage), "");
}

#[test]
fn only_the_first_word_asks_for_a_clean_up() {
    let stage = Stage::without_config();
    let code = |words: &[&str]| {
        let node = stage.lab.node(A);
        let mut command = node.command(env!("CARGO_BIN_EXE_flanneld")).unwrap();
        command.args(words).output().unwrap().status.code()
    };
    assert_eq!(code(&["--dry-run"]), Some(2));
    assert_eq!(code(&["cleanup", "--nonsense"]), Some(2));
    assert_eq!(code(&["--version", "cleanup"]), Some(0));
}
