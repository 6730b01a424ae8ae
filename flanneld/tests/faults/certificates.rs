//! etcd shows a certificate that must not be believed, and later one that may.

use std::fs;
use std::time::Duration;

use benches::Side;
use benches::authority::{Authority, Identity};
use benches::etcd::{Api, Clients, Etcd};

use super::scene::{BACK, LOST, Scene, Stage, by_both_versions, member_address, told};
use super::table::{assert_none_lost, ms, report};

by_both_versions!(certificates_that_went_bad_cost_no_packet_and_are_replaced_without_a_restart,);

/// The name under which the first member's certificate lies in its files.
const NAME: &str = "server0";

fn host() -> String {
    member_address(0).to_string()
}

fn authority(etcd: &Etcd) -> &Authority {
    etcd.authority().unwrap()
}

fn expired(etcd: &Etcd) {
    authority(etcd)
        .sign_for(NAME, &[&host()], Duration::ZERO)
        .unwrap();
    // It is good to the end of its last second.
    std::thread::sleep(Duration::from_secs(1));
}

fn of_another_name(etcd: &Etcd) {
    authority(etcd).sign(NAME, &["etcd.example"]).unwrap();
}

fn of_a_stranger(etcd: &Etcd) {
    let theirs = Authority::new().unwrap();
    let Identity { certificate, key } = theirs.sign(NAME, &[&host()]).unwrap();
    let here = authority(etcd).directory();
    fs::copy(certificate, here.join(format!("{NAME}.pem"))).unwrap();
    fs::copy(key, here.join(format!("{NAME}.key"))).unwrap();
}

/// The server's certificate goes bad, every connection ends, and the certificate is replaced by a good one.
fn goes_bad_and_is_replaced(scene: &mut Scene, what: &str, go_bad: fn(&Etcd), reason: &str) {
    let probe = scene.probe();
    let mark = scene.mark(Side::A);
    go_bad(&scene.etcd);
    scene.etcd.kill();
    scene.etcd.run().unwrap();
    let noticed = scene.await_line(&mark, LOST);
    let named = scene.await_line(&mark, reason);
    authority(&scene.etcd).sign(NAME, &[&host()]).unwrap();
    let healed = scene.mark(Side::A);
    let back = scene.await_line(&healed, BACK);
    let outcome = probe.stop();
    report(
        &format!(
            "etcd's certificate {what}, then replaced{}",
            told(scene.api)
        ),
        Some(&outcome),
        &[
            ("told after", ms(noticed)),
            ("its reason", ms(named)),
            ("back after replacement", ms(back)),
        ],
    );
    assert_none_lost(&outcome);
    scene.assert_told_once(&mark);
}

fn certificates_that_went_bad_cost_no_packet_and_are_replaced_without_a_restart(api: Api) {
    let mut scene = Stage::new("udp")
        .by(api)
        .shape(|plan| plan.clients(Clients::Tls))
        .up();
    goes_bad_and_is_replaced(&mut scene, "expired", expired, "certificate expired");
    goes_bad_and_is_replaced(
        &mut scene,
        "of another name",
        of_another_name,
        "not valid for name",
    );
    goes_bad_and_is_replaced(
        &mut scene,
        "of an unknown authority",
        of_a_stranger,
        "BadSignature",
    );
    scene.assert_running();
}
