//! A node's own record is lost, taken, or meant to last; and who may write it changes.

use std::thread;
use std::time::Duration;

use benches::Side;
use benches::etcd::{Api, Etcd};
use benches::traffic::probe::Outcome;

use super::road::a_moment;
use super::scene::{PREFIX, Scene, Stage, by_both_versions, put, record, told};
use super::table::{assert_none_lost, ms, report};

by_both_versions!(
    a_lease_that_is_deleted_is_taken_back,
    a_lease_that_another_node_took_is_left_to_it,
    a_reservation_stays_a_reservation,
);

/// How often a record is deleted: all but a few must cost nothing, however busy the machine.
const TRIES: usize = 5;

/// Deletes A's record under the probe, and waits until it is there again.
fn lose_and_regain(scene: &mut Scene, own: &str) -> (Outcome, Duration) {
    let (gateway, before) = (scene.gateway(), scene.get(own));
    let probe = scene.probe();
    a_moment();
    gateway.delete(own).unwrap();
    let again = scene.await_value(own, |value| value == before);
    a_moment();
    (probe.stop(), again)
}

fn a_lease_that_is_deleted_is_taken_back(api: Api) {
    // Stock shuts down, and the tunnel with it.
    let mut scene = Stage::new("vxlan").by(api).up();
    let own = scene.own_record(Side::A);
    // The others wait for as long as two writes to a store take; a machine that is held up may need longer once. The
    // worst is reported, the median asserted.
    let mut tries: Vec<_> = (0..TRIES)
        .map(|_| lose_and_regain(&mut scene, &own))
        .collect();
    tries.sort_by_key(|(outcome, again)| (outcome.lost, *again));
    let (worst, again) = &tries[TRIES - 1];
    report(
        &format!("own lease deleted, the worst of five times{}", told(api)),
        Some(worst),
        &[("taken back after", ms(*again))],
    );
    assert_none_lost(&tries[TRIES / 2].0);
    scene.assert_running();
}

fn a_lease_that_another_node_took_is_left_to_it(api: Api) {
    let mut scene = Stage::new("udp").by(api).up();
    let (gateway, own) = (scene.gateway(), scene.own_record(Side::A));
    let before = scene.get(&own);
    let probe = scene.probe();
    let mark = scene.mark(Side::A);
    let theirs = r#"{"PublicIP":"192.168.77.99","PublicIPv6":null}"#;
    gateway.put(&own, theirs.as_bytes()).unwrap();
    let noticed = scene.await_line(&mark, "is now held by");
    // B believes the record, as it must; A goes on, and can be heard.
    a_moment();
    assert_eq!(scene.get(&own), theirs);
    scene.assert_running();
    gateway.delete(&own).unwrap();
    let again = scene.await_value(&own, |value| value == before);
    scene.path.wait_until_connected().unwrap();
    let outcome = probe.stop();
    report(
        &format!(
            "own lease taken by another node, then free again{}",
            told(api)
        ),
        Some(&outcome),
        &[("told after", ms(noticed)), ("taken back after", ms(again))],
    );
    // B sends to whom the record names; that is what a record is for. Nothing else is lost.
    assert!(outcome.gaps.len() <= 1, "{outcome}");
    assert_eq!(
        scene.lines_since(&mark, "is now held by"),
        1,
        "{}",
        scene.path.logs()
    );
}

/// Whether a record lasts without being renewed.
fn lasts(scene: &Scene, key: &str) -> bool {
    match scene.api {
        Api::V2 => {
            let words = ["--output=extended", "get", "--", key];
            scene.etcd.v2().ctl(&words).unwrap().contains("TTL: 0\n")
        }
        Api::V3 => {
            let words = ["get", "--write-out=json", "--", key];
            !scene.etcd.ctl(&words).unwrap().contains("\"lease\":")
        }
    }
}

fn a_reservation_stays_a_reservation(api: Api) {
    // Stock turns it into a lease of a day when it finds it, and when it renews.
    let reserved = record("10.5.33.0-24");
    let name = reserved.clone();
    let mut scene = Stage::new("vxlan")
        .by(api)
        .prepare(move |etcd| {
            let value = r#"{"PublicIP":"192.168.77.1","PublicIPv6":null}"#;
            put(etcd, api, &name, value);
        })
        .up();
    assert_eq!(scene.own_record(Side::A), reserved);
    assert!(!lasts(&scene, &scene.own_record(Side::B)));
    for _ in 0..3 {
        assert!(scene.get(&reserved).contains("VtepMAC"));
        assert!(lasts(&scene, &reserved));
        scene
            .path
            .restart(Side::A, super::scene::flanneld())
            .unwrap();
        assert_eq!(scene.own_record(Side::A), reserved);
    }
    assert!(lasts(&scene, &reserved));
}

const ROOT: &str = "--user=root:secret";
/// Seconds a log-in lasts that nobody uses.
const LOGIN: u64 = 2;

fn as_root(etcd: &Etcd, words: &str) {
    let words: Vec<_> = [ROOT].into_iter().chain(words.split(' ')).collect();
    etcd.ctl(&words).unwrap();
}

fn enrol(etcd: &Etcd, password: &str) {
    as_root(etcd, &format!("user add flannel:{password}"));
    as_root(etcd, "user grant-role flannel flannel");
}

fn guard(etcd: &Etcd) {
    etcd.ctl(&["user", "add", "root:secret"]).unwrap();
    etcd.ctl(&["role", "add", "flannel"]).unwrap();
    let all = format!("{PREFIX}/");
    etcd.ctl(&[
        "role",
        "grant-permission",
        "--prefix=true",
        "flannel",
        "readwrite",
        &all,
    ])
    .unwrap();
    etcd.ctl(&["auth", "enable"]).unwrap();
    enrol(etcd, "first");
}

fn await_own(scene: &Scene, before: &str) -> Duration {
    let begun = std::time::Instant::now();
    super::scene::await_until(
        || value_as_root(&scene.etcd, &scene.own_record(Side::A)) == before,
        || "the lease does not come back".to_owned(),
    );
    begun.elapsed()
}

fn value_as_root(etcd: &Etcd, key: &str) -> String {
    let value = etcd
        .ctl(&[ROOT, "get", "--print-value-only", "--", key])
        .unwrap();
    value.trim_end().to_owned()
}

/// Changes our record in a way that hurts nobody, so that the daemon must write it anew.
fn scribble(scene: &Scene, own: &str, before: &str) {
    let changed = before.replace(r#""PublicIPv6":null"#, r#""PublicIPv6":"fd00::1""#);
    assert_ne!(changed, before);
    scene.etcd.ctl(&[ROOT, "put", "--", own, &changed]).unwrap();
}

#[test]
fn a_login_that_ran_out_is_renewed_and_a_changed_password_costs_no_packet() {
    let mut scene = Stage::new("udp")
        .shape(|plan| {
            plan.flag(&format!("--auth-token-ttl={LOGIN}"))
                .flag("--bcrypt-cost=4")
        })
        .prepare(guard)
        .flag("etcd-username=flannel")
        .flag("etcd-password=first")
        .up();
    let own = scene.own_record(Side::A);
    let before = value_as_root(&scene.etcd, &own);
    let probe = scene.probe();
    thread::sleep(Duration::from_secs(LOGIN + 2));
    scribble(&scene, &own, &before);
    let after_expiry = await_own(&scene, &before);
    let mark = scene.mark(Side::A);
    as_root(&scene.etcd, "user delete flannel");
    enrol(&scene.etcd, "second");
    scribble(&scene, &own, &before);
    let told = scene.await_line(&mark, "cannot renew our lease");
    a_moment();
    as_root(&scene.etcd, "user delete flannel");
    enrol(&scene.etcd, "first");
    let after_change = await_own(&scene, &before);
    let outcome = probe.stop();
    report(
        "log-in to etcd ran out, then the password was changed and changed back",
        Some(&outcome),
        &[
            ("written with a new log-in after", ms(after_expiry)),
            ("refusal told after", ms(told)),
            ("written after change back", ms(after_change)),
        ],
    );
    assert_none_lost(&outcome);
    assert_eq!(
        scene.lines_since(&mark, "cannot renew"),
        1,
        "{}",
        scene.path.logs()
    );
}
