//! The store itself fails: frozen, killed, wiped, compacted, in parts.

use std::time::{Duration, Instant};

use benches::Side;
use benches::etcd::Api;

use super::road::{Cut, a_moment, cut, heal};
use super::scene::{
    BACK, LOST, Scene, Stage, await_until, by_both_versions, flanneld, lasting, record, told,
};
use super::table::{assert_none_lost, ms, report};

by_both_versions!(
    a_frozen_etcd_costs_no_packet,
    an_etcd_killed_and_started_again_costs_no_packet,
    a_wiped_etcd_has_every_lease_again,
    history_compacted_behind_our_back_is_not_missed,
    one_of_three_members_may_die_and_lead,
    a_daemon_restarted_while_cut_off_carries_on_and_learns_what_it_missed,
    compactions_in_a_storm_cost_no_packet_and_no_line,
);

/// What follows the first table after that.
const SETTLE: Duration = Duration::from_millis(300);

/// Both nodes' records are in the store, as they were.
fn assert_records(scene: &Scene) {
    for side in Side::BOTH {
        let value = scene.get(&scene.own_record(side));
        assert!(value.contains(&side.underlay().to_string()), "{value:?}");
    }
}

fn a_frozen_etcd_costs_no_packet(api: Api) {
    let mut scene = Stage::new("vxlan").by(api).up();
    let probe = scene.probe();
    let busy = scene.path.carriers_cpu_seconds();
    let mark = scene.mark(Side::A);
    scene.etcd.freeze().unwrap();
    let noticed = scene.await_line(&mark, LOST);
    std::thread::sleep(lasting(10, 60).saturating_sub(noticed));
    let busy = scene.path.carriers_cpu_seconds() - busy;
    let lines = scene.lines_since(&mark, "");
    let healed = scene.mark(Side::A);
    scene.etcd.thaw().unwrap();
    let back = scene.await_line(&healed, BACK);
    std::thread::sleep(SETTLE);
    let outcome = probe.stop();
    report(
        &format!(
            "etcd frozen for {} s{}",
            lasting(10, 60).as_secs(),
            told(api)
        ),
        Some(&outcome),
        &[
            ("noticed", ms(noticed)),
            ("back after heal", ms(back)),
            ("log lines", lines.to_string()),
            ("both daemons' processor time", format!("{busy:.2} s")),
        ],
    );
    assert_none_lost(&outcome);
    scene.assert_told_once(&mark);
    scene.assert_running();
    assert_records(&scene);
}

fn an_etcd_killed_and_started_again_costs_no_packet(api: Api) {
    let mut scene = Stage::new("udp").by(api).up();
    let probe = scene.probe();
    let mark = scene.mark(Side::A);
    scene.etcd.kill();
    let noticed = scene.await_line(&mark, LOST);
    std::thread::sleep(Duration::from_secs(1));
    scene.etcd.run().unwrap();
    let healed = scene.mark(Side::A);
    let back = scene.await_line(&healed, BACK);
    std::thread::sleep(SETTLE);
    let outcome = probe.stop();
    report(
        &format!("etcd killed, started again{}", told(api)),
        Some(&outcome),
        &[("noticed", ms(noticed)), ("back after heal", ms(back))],
    );
    assert_none_lost(&outcome);
    scene.assert_told_once(&mark);
    assert_records(&scene);
}

fn a_wiped_etcd_has_every_lease_again(api: Api) {
    let mut scene = Stage::new("vxlan").by(api).up();
    let before = Side::BOTH.map(|side| scene.get(&scene.own_record(side)));
    let probe = scene.probe();
    scene.etcd.wipe().unwrap();
    let again = scene.await_value(&scene.own_record(Side::A), |value| value == before[0]);
    let all = again + scene.await_value(&scene.own_record(Side::B), |value| value == before[1]);
    std::thread::sleep(SETTLE);
    let outcome = probe.stop();
    report(
        &format!("etcd wiped: empty data directory{}", told(api)),
        Some(&outcome),
        &[("both leases again", ms(all))],
    );
    assert_none_lost(&outcome);
    scene.assert_running();
}

fn history_compacted_behind_our_back_is_not_missed(api: Api) {
    let mut scene = Stage::new("udp").by(api).up();
    let gateway = scene.gateway();
    let probe = scene.probe();
    // While the watch stands, it needs no history.
    scene.forget_history();
    let connected = scene.mark(Side::A);
    write_peer(&gateway, 200);
    let seen = scene.await_line(&connected, "2 peer subnets");
    // While it is cut off, what it waits for is removed from history.
    let mark = scene.mark(Side::A);
    cut(&scene, Side::A, Cut::Drop);
    scene.await_line(&mark, LOST);
    write_peer(&gateway, 201);
    scene.forget_history();
    let healed = scene.mark(Side::A);
    heal(&scene);
    let found = scene.await_line(&healed, "3 peer subnets");
    let outcome = probe.stop();
    report(
        &format!("history compacted, also while cut off{}", told(api)),
        Some(&outcome),
        &[("change seen", ms(seen)), ("after heal", ms(found))],
    );
    assert_none_lost(&outcome);
}

fn write_peer(gateway: &benches::etcd::Gateway, third: u8) {
    let key = record(&format!("10.5.{third}.0-24"));
    let value = format!(r#"{{"PublicIP":"192.168.78.{third}","PublicIPv6":null}}"#);
    gateway.put(&key, value.as_bytes()).unwrap();
}

fn one_of_three_members_may_die_and_lead(api: Api) {
    let mut scene = Stage::new("udp").by(api).members(3).up();
    let probe = scene.probe();
    // Daemons talk to the first one; wherever the leader is, killing each in turn hits it once.
    let mut seen = Vec::new();
    for number in 0..3 {
        scene.etcd.member(number).kill();
        let alive = (number + 1) % 3;
        let gateway = scene.gateway_of(alive);
        let key = record(&format!("10.5.{}.0-24", 200 + number));
        await_until(
            || gateway.put(&key, PEER).is_ok(),
            || "two of three members elect no leader".to_owned(),
        );
        let taken = Instant::now();
        let line = format!("{} peer subnets", 2 + number);
        await_until(
            || scene.log(Side::A).contains(&line),
            || format!("no {line:?}"),
        );
        seen.push(taken.elapsed());
        scene.etcd.member(number).run().unwrap();
    }
    let outcome = probe.stop();
    let seen: Vec<_> = seen.into_iter().map(ms).collect();
    report(
        &format!(
            "each of three members killed in turn, the leader among them{}",
            told(api)
        ),
        Some(&outcome),
        &[("change seen after two members took it", seen.join(" / "))],
    );
    assert_none_lost(&outcome);
    assert_records(&scene);
}

const PEER: &[u8] = br#"{"PublicIP":"192.168.78.200","PublicIPv6":null}"#;

fn a_daemon_restarted_while_cut_off_carries_on_and_learns_what_it_missed(api: Api) {
    let mut scene = Stage::new("udp").by(api).up();
    let (gateway, own) = (scene.gateway(), scene.own_record(Side::A));
    // What is written down for such a start holds both nodes once it has started beside the other.
    scene.path.restart(Side::A, flanneld()).unwrap();
    let state = scene.path.lab().scratch().join("subnet-A.env.state");
    let peer = scene.own_record(Side::B);
    let peer = peer.rsplit('/').next().unwrap().to_owned();
    await_until(
        || std::fs::read_to_string(&state).is_ok_and(|text| text.contains(&peer)),
        || format!("{} lacks {peer}", state.display()),
    );
    let probe = scene.probe();
    cut(&scene, Side::A, Cut::Refuse);
    let begun = Instant::now();
    scene.path.restart(Side::A, flanneld()).unwrap();
    scene.path.wait_until_connected().unwrap();
    let connected = begun.elapsed();
    let (outage, probe) = (probe.stop(), scene.probe());
    write_peer(&gateway, 200);
    scene.forget_history();
    let mark = scene.mark(Side::A);
    heal(&scene);
    let learnt = scene.await_line(&mark, "2 peer subnets");
    report(
        &format!(
            "daemon restarted while cut off from etcd, history compacted{}",
            told(api)
        ),
        Some(&outage),
        &[
            ("packets pass after", ms(connected)),
            ("what was missed known after heal", ms(learnt)),
        ],
    );
    assert_eq!(scene.own_record(Side::A), own, "the subnet is kept");
    // Only the restart itself costs packets, however soon all is learnt.
    a_moment();
    assert_none_lost(&probe.stop());
    assert_records(&scene);
}

/// Peers that are written again and again.
const PEERS: u32 = 40;

/// Stock has filled disks with what it said of compactions.
fn compactions_in_a_storm_cost_no_packet_and_no_line(api: Api) {
    let mut scene = Stage::new("udp").by(api).up();
    let gateway = scene.gateway();
    write_peer(&gateway, 200);
    let (probe, mark) = (scene.probe(), scene.mark(Side::A));
    let (begun, mut changes) = (Instant::now(), 0u32);
    // Each peer is written at least once, however long that takes.
    while begun.elapsed() < lasting(2, 600) || changes < PEERS {
        for _ in 0..20 {
            write_peer(&gateway, 201 + (changes % PEERS) as u8);
            changes += 1;
        }
        scene.forget_history();
    }
    scene.await_line(&mark, "42 peer subnets");
    let outcome = probe.stop();
    let lost = scene.lines_since(&mark, LOST);
    report(
        &format!(
            "etcd compacted after every 20 of {changes} changes{}",
            told(api)
        ),
        Some(&outcome),
        &[("losses of it told", lost.to_string())],
    );
    assert_none_lost(&outcome);
    assert_eq!(lost, 0);
}
