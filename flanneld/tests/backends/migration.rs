//! A network moves from one form to the other and back, node by node, under traffic of both families. What each step
//! loses is printed.

use std::io::Write;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use benches::traffic::Ends;
use benches::traffic::probe::{Outcome, Probe};
use benches::traffic::streams::Streams;

use crate::cluster::Cluster;

const NODES: usize = 3;
/// The ways packets are sent on: from, to, and whether as IPv6.
const WAYS: [(usize, usize, bool); 4] = [(0, 1, false), (1, 2, true), (2, 0, false), (2, 0, true)];
/// Streams that must survive it all, on each way, and the pause between what they write.
const STREAMS: usize = 2;
const PAUSE: Duration = Duration::from_millis(20);
/// Steps there and back: what every node is told in turn.
const STEPS: [&str; 6] = [
    "udp,vxlan",
    "vxlan,udp",
    "vxlan",
    "vxlan,udp",
    "udp,vxlan",
    "udp",
];
/// What the last node of a step has written reaches the others within this.
const SPREAD: Duration = Duration::from_millis(300);

/// Both ends of each way.
fn ends(cluster: &Cluster) -> Vec<Ends<'_>> {
    let of = |node: usize, ipv6: bool| {
        let address: IpAddr = match ipv6 {
            false => cluster.container(node).into(),
            true => cluster.container_ipv6(node).into(),
        };
        (&cluster.node(node).container, address)
    };
    WAYS.map(|(from, to, ipv6)| Ends::between(of(from, ipv6), of(to, ipv6)))
        .into()
}

/// What probes saw together: packets sent, lost, and the slowest.
fn sum(outcomes: &[Outcome]) -> (u64, u64, Duration) {
    let all = outcomes.iter();
    (
        all.clone().map(|one| one.sent).sum(),
        all.clone().map(|one| one.lost).sum(),
        all.map(|one| one.slowest).max().unwrap_or_default(),
    )
}

/// Past the harness, which keeps what tests that pass have printed.
fn report(step: &str, (sent, lost, slowest): (u64, u64, Duration)) {
    let line = format!(
        "migration | every node to --forms={step} | {sent} | {lost} | {} ms\n",
        slowest.as_millis()
    );
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// A record's form.
fn states(cluster: &Cluster, node: usize) -> &'static str {
    let name = format!("10.5.{0}.0-24&fd05:0:0:{0}::-64", 11 + node);
    let record = cluster.store.path().join("subnets").join(name);
    match std::fs::read_to_string(record)
        .unwrap()
        .contains(r#""BackendType":"vxlan""#)
    {
        true => "vxlan",
        false => "udp",
    }
}

#[test]
fn a_network_moves_from_udp_to_vxlan_and_back_node_by_node_without_losing_a_packet() {
    let mut cluster = Cluster::of_both_families(NODES, r#"{"Type":"udp"}"#);
    cluster.start_all();
    for node in &cluster.site.nodes {
        node.run_container_ipv6();
    }
    cluster.talk();
    let streams: Vec<Streams> = ends(&cluster)
        .iter()
        .map(|ends| Streams::start(ends, STREAMS, PAUSE).unwrap())
        .collect();
    for step in STEPS {
        let probes: Vec<Probe> = ends(&cluster)
            .iter()
            .map(|ends| Probe::start(ends).unwrap())
            .collect();
        for node in 0..NODES {
            cluster.relieve(node, &[&format!("--forms={step}")]);
            let stated = step.split(',').next().unwrap();
            let written = (0..200).any(|_| {
                sleep(Duration::from_millis(10));
                states(&cluster, node) == stated
            });
            assert!(written, "{}", cluster.node(node).log());
        }
        sleep(SPREAD);
        let outcomes: Vec<Outcome> = probes.into_iter().map(Probe::stop).collect();
        let total = sum(&outcomes);
        report(step, total);
        assert_eq!(total.1, 0, "{step}: {outcomes:?}");
        for node in &mut cluster.site.nodes {
            assert_eq!(node.count_log("WARN"), 0, "{step}: {}", node.log());
        }
    }
    for stream in streams {
        let outcome = stream.stop().unwrap();
        assert_eq!(outcome.broken, 0);
        assert!(outcome.bytes > 0);
    }
}

/// Containers that were told the MTU of the UDP form go on sending packets of that size.
#[test]
fn containers_with_the_mtu_of_before_lose_nothing_to_nodes_that_moved() {
    let mut cluster = Cluster::up(2, r#"{"Type":"udp"}"#);
    assert_eq!(cluster.node(0).subnet_value("FLANNEL_MTU"), "1472");
    for node in 0..2 {
        cluster.relieve(node, &["--forms=vxlan,udp"]);
        cluster.site.nodes[node].await_ready();
        // Those that are started from now on are told what fits both forms.
        assert_eq!(cluster.node(node).subnet_value("FLANNEL_MTU"), "1450");
    }
    let far = cluster.container(1);
    let ping = format!("ping -n -c 20 -i 0.01 -W 2 -M want -s 1444 {far}");
    let said = cluster.node(0).container.run(&ping).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    cluster.talk();
}
