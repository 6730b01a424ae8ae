//! What is version 2's own, as flannel up to 0.17 keeps its leases by it: times to live, rights, and being found out.

use benches::Side;
use benches::etcd::{Api, Etcd, V2};

use super::scene::{BACK, LOST, PREFIX, Stage};
use super::table::{assert_none_lost, ms, report};

#[test]
fn leases_in_an_old_etcd_last_as_they_should() {
    let mut scene = Stage::new("udp").by(Api::V2).up();
    // Flannel 0.11 writes this to the second, and reads no more than this.
    for side in Side::BOTH {
        let own = scene.own_record(side);
        let words = ["--output=extended", "get", "--", &own];
        let shown = scene.etcd.v2().ctl(&words).unwrap();
        let left = shown.lines().find_map(|line| line.strip_prefix("TTL: "));
        let left: u64 = left.unwrap().parse().unwrap();
        assert!((86_000..=86_400).contains(&left), "{shown}");
    }
    scene.assert_running();
}

#[test]
fn a_daemon_finds_out_which_version_its_cluster_uses() {
    let mut scene = Stage::new("udp").by(Api::V2).flag("etcd-api=auto").up();
    for side in Side::BOTH {
        assert!(scene.log(side).contains("using version 2 of etcd's API"));
        assert!(!scene.get(&scene.own_record(side)).is_empty());
    }
}

const ROOT: &str = "--username=root:secret";

fn as_root(v2: V2<'_>, words: &str) {
    let words: Vec<_> = [ROOT].into_iter().chain(words.split(' ')).collect();
    v2.ctl(&words).unwrap();
}

/// Lets in who is called flannel, with the rights flannel's own guides give, and nobody without a name.
fn guard(etcd: &Etcd) {
    let v2 = etcd.v2();
    v2.ctl(&["user", "add", "root:secret"]).unwrap();
    v2.ctl(&["user", "add", "flannel:first"]).unwrap();
    v2.ctl(&["role", "add", "flannel"]).unwrap();
    let path = format!("--path={PREFIX}/*");
    v2.ctl(&["role", "grant", "flannel", &path, "--readwrite"])
        .unwrap();
    v2.ctl(&["user", "grant", "flannel", "--roles=flannel"])
        .unwrap();
    v2.ctl(&["auth", "enable"]).unwrap();
    as_root(v2, "role revoke guest --path=/* --readwrite");
}

fn enrol(v2: V2<'_>, password: &str) {
    as_root(v2, "user remove flannel");
    as_root(v2, &format!("user add flannel:{password}"));
    as_root(v2, "user grant flannel --roles=flannel");
}

#[test]
fn a_password_changed_in_an_old_etcd_costs_no_packet() {
    let mut scene = Stage::new("udp")
        .by(Api::V2)
        .prepare(guard)
        .flag("etcd-username=flannel")
        .flag("etcd-password=first")
        .up();
    let (probe, mark) = (scene.probe(), scene.mark(Side::A));
    enrol(scene.etcd.v2(), "second");
    let noticed = scene.await_line(&mark, LOST);
    enrol(scene.etcd.v2(), "first");
    let healed = scene.mark(Side::A);
    let back = scene.await_line(&healed, BACK);
    let outcome = probe.stop();
    report(
        "password for etcd changed and changed back, by version 2",
        Some(&outcome),
        &[("told after", ms(noticed)), ("back after", ms(back))],
    );
    assert_none_lost(&outcome);
    scene.assert_told_once(&mark);
}
