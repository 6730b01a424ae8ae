//! One daemon takes over from another: what each of them does when the other fails or says something else, and who is
//! told.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Output;
use std::thread::sleep;
use std::time::Duration;

use benches::Side;
use benches::traffic::Ends;
use benches::traffic::probe::Probe;
use control::handover::{self, Channel, VERSION, Word};

use super::stage::{HOST_GW, KERNEL_VXLAN, Stage, UDP, VXLAN, wait};

const A: Side = Side::A;
const SOON: Duration = Duration::from_secs(10);

/// A packet per millisecond between the containers.
fn probe(stage: &Stage) -> Probe {
    let [near, far] = Side::BOTH.map(|side| {
        let address = stage.subnet(side).unwrap().container();
        (stage.lab.container(side), address.into())
    });
    Probe::start(&Ends::between(near, far)).unwrap()
}

fn assert_none_lost(probe: Probe) {
    sleep(Duration::from_millis(50));
    let outcome = probe.stop();
    assert!(outcome.sent > 5, "{outcome}");
    assert_eq!(outcome.lost, 0, "{outcome}");
}

/// Where the daemon on node A waits.
fn door(stage: &Stage) -> PathBuf {
    stage.directory(A).join("subnet.env.takeover")
}

fn up(config: &str) -> Stage {
    let stage = Stage::up(config);
    wait("the door", || door(&stage).exists());
    stage
}

fn a_daemon_takes_over_without_a_gap(config: &str) {
    let mut stage = up(config);
    let (subnet, probe) = (stage.subnet(A), probe(&stage));
    for _ in 0..3 {
        let mut old = stage.add(A, &["--iface=eth0", "--takeover"]);
        let status = old.wait().unwrap();
        assert!(status.success(), "{status}");
        stage.wait_for(A, "took over from process");
        assert!(!old.log().contains("WARN"), "{}", old.log());
    }
    assert_none_lost(probe);
    assert_eq!(stage.subnet(A), subnet);
    assert_eq!(stage.times(A, "WARN"), 0);
    wait("the lease renewed", || stage.times(A, "renewed") == 1);
    // A daemon that came by a takeover ends like any other.
    assert!(stage.stop(A).success());
    assert!(!door(&stage).exists());
}

#[test]
fn a_daemon_takes_over_without_a_gap_in_udp_form() {
    a_daemon_takes_over_without_a_gap(UDP);
}

#[test]
fn a_daemon_takes_over_without_a_gap_in_vxlan_form() {
    a_daemon_takes_over_without_a_gap(VXLAN);
}

#[test]
fn a_daemon_takes_over_without_a_gap_with_host_gw() {
    a_daemon_takes_over_without_a_gap(HOST_GW);
}

#[test]
fn a_daemon_takes_over_without_a_gap_with_a_kernel_device() {
    a_daemon_takes_over_without_a_gap(KERNEL_VXLAN);
}

#[test]
fn a_daemon_takes_over_while_etcd_is_away() {
    let mut stage = up(UDP);
    stage.etcd.kill();
    let probe = probe(&stage);
    let mut old = stage.add(A, &["--iface=eth0", "--takeover"]);
    assert!(old.wait().unwrap().success());
    stage.wait_for(A, "took over from process");
    assert_none_lost(probe);
    stage.etcd.run().unwrap();
    wait("the lease renewed", || stage.times(A, "renewed") == 1);
    stage.wait_until_connected();
}

#[test]
fn a_takeover_where_no_daemon_runs_is_an_ordinary_start() {
    let mut stage = Stage::new(UDP);
    for side in Side::BOTH {
        stage.start(side, &["--iface=eth0", "--takeover"]);
    }
    stage.settle();
    assert_eq!(stage.times(A, "no daemon to take over from"), 1);
    // A door nobody stands behind any more is none.
    stage.kill(A);
    assert!(door(&stage).exists());
    stage.start(A, &["--iface=eth0", "--takeover"]);
    stage.wait_for(A, "no daemon to take over from");
    stage.wait_until_connected();
}

/// A new daemon with these flags gives up, and the old one carries on.
fn is_refused(config: &str, flags: &[&str], why: &str) {
    let mut stage = up(config);
    let probe = probe(&stage);
    let old = stage.add(A, &[&["--takeover"], flags].concat());
    assert_eq!(stage.outlive(A).code(), Some(1));
    assert_eq!(stage.times(A, why), 1, "{}", stage.log(A));
    stage.put_back(A, old);
    assert_none_lost(probe);
    stage.assert_running(A);
}

#[test]
fn a_daemon_for_another_address_does_not_take_over() {
    let flags = ["--iface=eth0", "--public-ip=192.168.77.9"];
    is_refused(UDP, &flags, "another public address");
}

#[test]
fn a_daemon_for_another_store_does_not_take_over() {
    is_refused(
        UDP,
        &["--iface=eth0", "--etcd-prefix=/other"],
        "from another store",
    );
}

#[test]
fn a_daemon_that_would_carry_packets_another_way_does_not_take_over() {
    let flags = ["--iface=eth0", "--vxlan-datapath=kernel"];
    is_refused(VXLAN, &flags, "--vxlan-datapath");
}

#[test]
fn a_daemon_without_an_interface_does_not_take_over() {
    is_refused(UDP, &["--iface=eth7"], "no interface matches eth7");
}

#[test]
fn a_new_daemon_may_move_packets_otherwise() {
    let mut stage = up(UDP);
    let probe = probe(&stage);
    for flags in [
        ["--io=uring-multishot", "--no-offload=all"],
        ["--io=epoll", "--offload=all"],
        ["--io=uring-oneshot", "--no-offload=gro,tso"],
    ] {
        let flags = [&["--iface=eth0", "--takeover"], &flags[..]].concat();
        let mut old = stage.add(A, &flags);
        assert!(old.wait().unwrap().success(), "{}", stage.log(A));
        stage.wait_for(A, "took over from process");
    }
    assert_none_lost(probe);
}

/// How far a caller gets before it goes or falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Called,
    Greeted,
    Offered,
    Prepared,
    Gone,
}

/// Does what a new daemon does, up to a step.
fn call(stage: &Stage, step: Step) -> Channel {
    let channel = handover::call(&door(stage)).unwrap().expect("a daemon");
    if step >= Step::Greeted {
        let (version, process) = (VERSION, std::process::id());
        channel.say(&Word::Hello { version, process }, &[]).unwrap();
    }
    if step >= Step::Offered {
        let (word, descriptors) = channel.hear(SOON).unwrap();
        let Word::Offer { memory, queues, .. } = word else {
            panic!("{word:?}")
        };
        assert!(memory.contains("10.5.0.0/16"));
        let wanted = queues.iter().map(|ports| ports.len() + 1).sum::<usize>();
        assert_eq!(descriptors.len(), wanted + 1);
    }
    if step >= Step::Prepared {
        channel.say(&Word::Ready, &[]).unwrap();
    }
    if step >= Step::Gone {
        channel.wait_for(&Word::Go, SOON).unwrap();
    }
    channel
}

#[test]
fn at_whatever_step_a_new_daemon_fails_the_old_one_carries_on() {
    let mut stage = up(VXLAN);
    let probe = probe(&stage);
    let steps = [
        Step::Called,
        Step::Greeted,
        Step::Offered,
        Step::Prepared,
        Step::Gone,
    ];
    for step in steps {
        drop(call(&stage, step));
        wait("an echo", || stage.echoes());
        // One that says something else than its turn is.
        let channel = call(&stage, step);
        channel.say(&Word::Over, &[]).unwrap();
        wait("an echo", || stage.echoes());
        // One that says why not.
        let why = "something is missing".to_owned();
        let channel = call(&stage, step);
        channel.say(&Word::Refused { why }, &[]).unwrap();
        wait("an echo", || stage.echoes());
    }
    assert_eq!(stage.times(A, "something is missing"), 4);
    assert_none_lost(probe);
    stage.assert_running(A);
}

#[test]
fn a_new_daemon_that_falls_silent_after_the_old_one_rests_is_not_waited_for() {
    let mut stage = up(UDP);
    let probe = probe(&stage);
    let channel = call(&stage, Step::Gone);
    stage.wait_for(A, "Carrying on as before");
    // It hears that it came too late.
    let _ = channel.say(&Word::Running, &[]);
    let heard = channel.wait_for(&Word::Over, SOON);
    assert!(
        matches!(heard, Err(handover::Silence::Refused(_))),
        "{heard:?}"
    );
    assert_none_lost(probe);
    stage.assert_running(A);
}

#[test]
fn a_daemon_that_speaks_another_version_is_told_so() {
    let stage = up(UDP);
    let channel = call(&stage, Step::Called);
    let (version, process) = (VERSION + 1, 1);
    channel.say(&Word::Hello { version, process }, &[]).unwrap();
    let heard = channel.hear(SOON).unwrap_err().to_string();
    assert!(heard.contains("restart instead"), "{heard}");
}

#[test]
fn ten_thousand_callers_who_want_nothing_cost_no_packet() {
    let mut stage = up(UDP);
    let probe = probe(&stage);
    for _ in 0..10_000 {
        drop(call(&stage, Step::Called));
    }
    let mut old = stage.add(A, &["--iface=eth0", "--takeover"]);
    assert!(old.wait().unwrap().success());
    assert_none_lost(probe);
}

/// Runs `flanneld upgrade` on node A.
fn upgrade(stage: &Stage, flags: &[&str], user: u32) -> Output {
    let daemon = stage.command(A);
    let node = stage.lab.node(A);
    let mut command = node.command("setpriv").unwrap();
    command.args([format!("--reuid={user}"), "--clear-groups".to_owned()]);
    command.arg(daemon.get_program()).arg("upgrade");
    command
        .args(daemon.get_args())
        .args(flags)
        .output()
        .unwrap()
}

#[test]
fn an_upgrade_replaces_the_daemon_and_says_so() {
    let mut stage = up(UDP);
    let probe = probe(&stage);
    let done = upgrade(&stage, &["--iface=eth0"], 0);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{done:?}");
    assert!(stage.outlive(A).success());
    let words: Vec<_> = said.split_whitespace().collect();
    let new: u32 = words[1].parse().unwrap();
    wait("an echo", || stage.echoes());
    assert_none_lost(probe);
    // It is nobody's child here any more.
    stage.wait_for(A, "took over from process");
    super::stage::signal(new, "TERM");
    let gone = || !std::path::Path::new(&format!("/proc/{new}")).exists();
    wait("the end of the new daemon", gone);
}

#[test]
fn an_upgrade_that_fails_leaves_the_daemon_as_it_is() {
    let mut stage = up(UDP);
    let probe = probe(&stage);
    let failed = upgrade(&stage, &["--iface=eth7"], 0);
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("carries on"), "{said}");
    assert_none_lost(probe);
    stage.assert_running(A);
}

#[test]
fn nobody_but_root_upgrades_a_daemon() {
    let mut stage = up(UDP);
    let failed = upgrade(&stage, &["--iface=eth0"], 65_534);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    stage.assert_running(A);
    assert_eq!(stage.times(A, "wants to take over"), 0);
}

#[test]
fn without_a_daemon_there_is_nothing_to_upgrade() {
    let stage = Stage::new(UDP);
    let failed = upgrade(&stage, &["--iface=eth0"], 0);
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("no daemon waits"), "{said}");
}

#[test]
fn the_service_manager_is_told_who_the_daemon_is_now() {
    let mut stage = Stage::new(UDP);
    let path = stage.directory(A).join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut heard = Vec::new();
    let mut hear = |wanted: &str| {
        while !heard.iter().any(|line: &String| line.contains(wanted)) {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).expect(wanted);
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        heard.clone()
    };
    let start = |stage: &mut Stage, flags: &[&str], watchdog: bool| {
        let mut command = stage.command(A);
        command.args(flags).env("NOTIFY_SOCKET", &path);
        if watchdog {
            command.env("WATCHDOG_USEC", "600000");
        }
        stage.start_as(A, &mut command);
    };
    start(&mut stage, &["--iface=eth0"], true);
    hear("READY=1");
    wait("the door", || door(&stage).exists());
    let mut old = stage.set_aside(A);
    start(&mut stage, &["--iface=eth0", "--takeover"], false);
    assert!(old.wait().unwrap().success());
    let said = hear(&format!("MAINPID={}", stage.id(A)));
    assert!(
        !said.iter().any(|line| line.contains("STOPPING")),
        "{said:?}"
    );
    heard.clear();
    let mut buffer = [0; 1024];
    let feeds = |length: usize, buffer: &[u8]| buffer[..length].starts_with(b"WATCHDOG=1");
    while !feeds(socket.recv(&mut buffer).expect("signs of life"), &buffer) {}
    assert!(stage.stop(A).success());
}

#[test]
fn probes_are_answered_before_and_after_a_takeover() {
    let mut stage = Stage::new(UDP);
    let flags = ["--iface=eth0", "--healthz-port=8471"];
    stage.start(A, &flags);
    let ready = |stage: &Stage| super::manager::probe(stage, "/readyz").contains("200");
    wait("ready", || ready(&stage));
    wait("the door", || door(&stage).exists());
    let mut old = stage.add(A, &[&flags[..], &["--takeover"]].concat());
    while old.ended().unwrap().is_none() {
        let answer = super::manager::probe(&stage, "/readyz");
        // One the old daemon had taken when it ended is not answered, and asked again.
        assert!(answer.is_empty() || answer.contains("200"), "{answer}");
        sleep(Duration::from_millis(1));
    }
    stage.wait_for(A, "took over from process");
    wait("ready", || ready(&stage));
}
