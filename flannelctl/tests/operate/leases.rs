//! `flannelctl lease list|reserve|release` on every kind of store, with a daemon and without.

use std::path::Path;
use std::process::Command;

use benches::etcd::Etcd;
use benches::scratch::Scratch;
use serde_json::{Value, json};

use super::scene::{Answer, Scene, UDP};

const CONFIG: &str = "/coreos.com/network/config";

/// `flannelctl lease` with flags for a store.
fn lease(words: &str, store: &[String]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannelctl"));
    command.arg("lease").args(words.split(' ')).args(store);
    command.output().unwrap().into()
}

fn told(words: &str, store: &[String]) -> String {
    let answer = lease(words, store);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.out
}

fn refused(words: &str, store: &[String]) -> String {
    let answer = lease(words, store);
    assert_eq!(answer.code, 1, "{answer:?}");
    answer.error
}

fn listed(store: &[String]) -> Value {
    let answer = lease("list --json", store);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.json()["leases"].clone()
}

/// Everything an operator does with reservations, on a store that has a config and no record.
fn reservations_come_and_go(store: &[String]) {
    assert_eq!(told("list", store), "no leases\n");
    assert!(refused("reserve 10.5.7.0/24", store).contains("say for which node"));
    assert!(refused("reserve 10.5.7.0/25 192.168.77.7", store).contains("a /24 between 10.5.1.0"));
    assert!(refused("reserve 10.6.7.0/24 192.168.77.7", store).contains("no subnet"));
    let done = told("reserve 10.5.7.0/24 192.168.77.7", store);
    assert_eq!(done, "reserved 10.5.7.0/24 for 192.168.77.7\n");
    assert!(told("reserve 10.5.7.0/24", store).contains("already"));
    let other = refused("reserve 10.5.7.0/24 192.168.77.8", store);
    assert!(other.contains("belongs to 192.168.77.7"), "{other}");
    let listed_now = listed(store);
    assert_eq!(
        listed_now,
        json!([{
            "subnets": ["10.5.7.0/24"], "node": "192.168.77.7", "form": "udp", "reserved": true,
            "bridge": null, "seconds_left": null,
            "record": r#"{"PublicIP":"192.168.77.7","PublicIPv6":null}"#
        }])
    );
    let done = told("release 10.5.7.0/24 --lease-time=60", store);
    assert!(done.contains("ends in 1 h"), "{done}");
    assert_eq!(listed(store)[0]["reserved"], false);
    let page = told("list", store);
    assert!(
        page.contains("10.5.7.0/24  192.168.77.7  udp   lease"),
        "{page}"
    );
    let again = refused("release 10.5.7.0/24", store);
    assert!(again.contains("--now removes it"), "{again}");
    let done = told("release 10.5.7.0/24 --now", store);
    assert_eq!(done, "removed 10.5.7.0/24 of 192.168.77.7\n");
    assert_eq!(listed(store), json!([]));
    assert!(refused("release 10.5.7.0/24", store).contains("nobody holds"));
}

fn flags(etcd: &Etcd, api: &str) -> Vec<String> {
    vec![
        format!("--etcd-endpoints={}", etcd.endpoints()),
        format!("--etcd-api={api}"),
    ]
}

#[test]
fn reservations_come_and_go_in_both_versions_of_etcd() {
    let etcd = Etcd::plan().version_2().launch().unwrap();
    etcd.put(CONFIG, UDP).unwrap();
    etcd.v2().put(CONFIG, UDP).unwrap();
    reservations_come_and_go(&flags(&etcd, "v3"));
    reservations_come_and_go(&flags(&etcd, "v2"));
    // Records decide between two configs.
    told("reserve 10.5.9.0/24 192.168.77.9", &flags(&etcd, "v2"));
    assert_eq!(listed(&flags(&etcd, "auto"))[0]["node"], "192.168.77.9");
}

#[test]
fn reservations_come_and_go_in_a_directory() {
    let scratch = Scratch::new().unwrap();
    std::fs::write(scratch.path().join("config"), UDP).unwrap();
    let store = |path: &Path| vec![format!("--store=file:{}", path.display())];
    reservations_come_and_go(&store(scratch.path()));
    let nowhere = scratch.path().join("none");
    assert!(refused("list", &store(&nowhere)).contains("no such directory"));
    assert!(!nowhere.exists());
}

#[test]
fn a_running_nodes_lease_is_made_a_reservation_and_a_lease_again() {
    let scene = Scene::new(Some(UDP));
    let standing = |reserved: bool| {
        let held = |answer: &Answer| answer.code == 0 && answer.json()["reserved"] == reserved;
        scene.wait_for("lease --json", held).json()
    };
    let subnet = standing(false)["subnets"][0].as_str().unwrap().to_owned();
    let command = |words: &str| {
        let store = format!(" --etcd-endpoints={}", scene.etcd.url());
        let words = format!("lease {words} {subnet}{store}");
        let command = env!("CARGO_BIN_EXE_flannelctl");
        scene
            .lab
            .node(benches::Side::A)
            .run(&format!("{command} {words}"))
            .unwrap()
    };
    assert!(command("reserve").contains("who holds it"));
    standing(true);
    command("release");
    let lease = standing(false);
    assert!(lease["expires_in_seconds"].is_u64(), "{lease}");
}
