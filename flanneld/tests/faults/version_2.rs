//! The same faults where leases are kept by version 2 of etcd's API, as flannel up to 0.17 keeps them.

use std::time::Duration;

use benches::Side;
use benches::etcd::Etcd;

use super::road::a_moment;
use super::scene::{BACK, LOST, Scene, Stage, await_until, record};
use super::table::{assert_none_lost, ms, report};

/// More changes than a server remembers.
const MANY: usize = 1100;

fn await_value(scene: &Scene, key: &str, good: impl Fn(&str) -> bool) -> Duration {
    let begun = std::time::Instant::now();
    await_until(
        || good(&scene.etcd.v2().get(key).unwrap_or_default()),
        || format!("{key} is not as it should be"),
    );
    begun.elapsed()
}

fn own_values(scene: &Scene) -> [String; 2] {
    Side::BOTH.map(|side| scene.etcd.v2().get(&scene.own_record(side)).unwrap())
}

/// Does harm until it is noticed, undoes it, and waits until that is noticed.
fn harm(
    scene: &mut Scene,
    does: impl FnOnce(&mut Etcd),
    undoes: impl FnOnce(&mut Etcd),
) -> [Duration; 2] {
    let mark = scene.mark(Side::A);
    does(&mut scene.etcd);
    let noticed = scene.await_line(&mark, LOST);
    undoes(&mut scene.etcd);
    let healed = scene.mark(Side::A);
    let back = scene.await_line(&healed, BACK);
    scene.assert_told_once(&mark);
    [noticed, back]
}

#[test]
fn an_old_etcd_frozen_killed_forgetful_or_wiped_costs_no_packet() {
    let mut scene = Stage::new("vxlan").version_2().up();
    let before = own_values(&scene);
    let probe = scene.probe();
    let frozen = harm(
        &mut scene,
        |etcd| etcd.freeze().unwrap(),
        |etcd| etcd.thaw().unwrap(),
    );
    let killed = harm(&mut scene, Etcd::kill, |etcd| etcd.run().unwrap());
    // What the daemons wait for is no more remembered by the server.
    scene.etcd.v2().churn(MANY).unwrap();
    let connected = scene.mark(Side::A);
    let peer = r#"{"PublicIP":"192.168.78.200","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:c8"}}"#;
    scene.etcd.v2().put(&record("10.5.200.0-24"), peer).unwrap();
    let seen = scene.await_line(&connected, "2 peer subnets");
    assert_eq!(own_values(&scene), before);
    scene.etcd.wipe().unwrap();
    let own = Side::BOTH.map(|side| scene.own_record(side));
    let again = await_value(&scene, &own[0], |value| value == before[0])
        + await_value(&scene, &own[1], |value| value == before[1]);
    a_moment();
    let outcome = probe.stop();
    report(
        "etcd by version 2: frozen, killed, history forgotten, wiped",
        Some(&outcome),
        &[
            ("frozen: noticed", ms(frozen[0])),
            ("back after heal", ms(frozen[1])),
            ("killed: noticed", ms(killed[0])),
            ("back after heal", ms(killed[1])),
            ("change seen", ms(seen)),
            ("wiped: both leases again", ms(again)),
        ],
    );
    assert_none_lost(&outcome);
    scene.assert_running();
}

#[test]
fn leases_and_reservations_in_an_old_etcd_last_as_they_should() {
    let reserved = record("10.5.33.0-24");
    let name = reserved.clone();
    let mut scene = Stage::new("udp")
        .version_2()
        .prepare(move |etcd| {
            let value = r#"{"PublicIP":"192.168.77.1"}"#;
            etcd.v2().put(&name, value).unwrap();
        })
        .up();
    assert_eq!(scene.own_record(Side::A), reserved);
    // Flannel 0.11 writes this to the second, and reads no more than this.
    let lasts = |scene: &Scene, side| {
        let words = ["--output=extended", "get", "--", &scene.own_record(side)];
        let shown = scene.etcd.v2().ctl(&words).unwrap();
        let ttl = shown.lines().find_map(|line| line.strip_prefix("TTL: "));
        ttl.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(lasts(&scene, Side::A), 0);
    let left = lasts(&scene, Side::B);
    assert!((86_000..=86_400).contains(&left), "{left}");
    scene
        .path
        .restart(Side::A, super::scene::flanneld())
        .unwrap();
    assert_eq!(scene.own_record(Side::A), reserved);
    assert_eq!(lasts(&scene, Side::A), 0);
    // One that is deleted is taken back.
    let own = scene.own_record(Side::B);
    let before = scene.etcd.v2().get(&own).unwrap();
    scene.etcd.v2().delete(&own).unwrap();
    await_value(&scene, &own, |value| value == before);
    scene.path.wait_until_connected().unwrap();
    // Another node's is left to it.
    let (mark, theirs) = (scene.mark(Side::B), r#"{"PublicIP":"192.168.77.99"}"#);
    scene.etcd.v2().put(&own, theirs).unwrap();
    scene.await_line(&mark, "is now held by");
    a_moment();
    assert_eq!(scene.etcd.v2().get(&own).unwrap(), theirs);
    scene.assert_running();
}

#[test]
fn a_daemon_finds_out_which_version_its_cluster_uses() {
    let mut scene = Stage::new("udp").version_2().flag("etcd-api=auto").up();
    for side in Side::BOTH {
        assert!(scene.log(side).contains("using version 2 of etcd's API"));
    }
    assert!(own_values(&scene).iter().all(|value| !value.is_empty()));
}
