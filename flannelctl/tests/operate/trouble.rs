//! Each question on a bad day: without a store, without a config, without a daemon, and asked by the wrong people.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::scene::{Answer, Scene, UDP, tool};

/// Everybody's user id.
const NOBODY: u32 = 65534;

#[test]
fn a_dead_etcd_is_found_with_status() {
    let mut scene = Scene::new(Some(UDP));
    scene.wait_for("status", |answer| answer.code == 0);
    scene.etcd.kill();
    let told = scene.wait_for("status", |answer| answer.code == 1);
    let words = format!("etcd at {} has not answered for", scene.etcd.url());
    assert!(told.out.contains(&words), "{told:?}");
    let status = scene.ask("status --json").json();
    assert_eq!(status["healthy"], false);
    assert_eq!(status["store"]["answers"], false);
    assert_eq!(status["lease"]["standing"], "held");
    scene.etcd.run().unwrap();
    scene.wait_for("status", |answer| answer.code == 0);
}

#[test]
fn a_daemon_that_waits_for_a_config_says_so() {
    let scene = Scene::new(None);
    let told = scene.wait_for("status", |answer| {
        answer.code == 1 && answer.out.contains("config")
    });
    assert!(told.out.contains("still starting"), "{told:?}");
    for words in ["peers", "routes", "lease"] {
        let answer = scene.ask(words);
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.error.contains("network config"), "{answer:?}");
    }
    scene.put_config(UDP);
    scene.wait_for("status", |answer| answer.code == 0);
}

fn signal(scene: &Scene, name: &str) {
    let id = scene.daemon.as_ref().unwrap().id().to_string();
    let sent = Command::new("kill").args([name, &id]).status();
    assert!(sent.unwrap().success());
}

/// Who sends a signal may be ahead of it.
fn wait_until_it_stands_still(scene: &Scene) {
    let status = format!("/proc/{}/status", scene.daemon.as_ref().unwrap().id());
    let stands = || fs::read_to_string(&status).unwrap().contains("State:\tT");
    while !stands() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_daemon_that_hangs_is_told_from_one_that_is_gone() {
    let mut scene = Scene::new(Some(UDP));
    scene.wait_for("status", |answer| answer.code == 0);
    signal(&scene, "-STOP");
    wait_until_it_stands_still(&scene);
    let hung = scene.ask("status");
    signal(&scene, "-CONT");
    assert_eq!(hung.code, 4, "{hung:?}");
    assert!(hung.error.contains("does not answer"), "{hung:?}");
    scene.daemon = None;
    // Its socket is gone, or nobody listens there: one that has no time to end leaves it behind.
    let gone = scene.ask("status");
    assert_eq!(gone.code, 3, "{gone:?}");
    assert!(gone.error.contains("FLANNEL_SUBNET=10.5."), "{gone:?}");
    let gone = scene.ask("peers --json");
    assert_eq!((gone.code, &gone.json()["error"]), (3, &"absent".into()));
}

#[test]
fn nobody_but_root_is_answered() {
    let scene = Scene::new(Some(UDP));
    scene.wait_for("status", |answer| answer.code == 0);
    let mode = fs::metadata(scene.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let copy = scene.lab.scratch().join("flannelctl");
    fs::copy(env!("CARGO_BIN_EXE_flannelctl"), &copy).unwrap();
    let ask = || -> Answer {
        let mut command = Command::new(&copy);
        let words = tool(&scene.socket(), "status");
        command.args(words.get_args()).uid(NOBODY).gid(NOBODY);
        command.output().unwrap().into()
    };
    let refused = ask();
    assert_eq!(refused.code, 1);
    assert!(refused.error.contains("use sudo"), "{refused:?}");
    // Even where somebody has opened the file to all.
    fs::set_permissions(scene.socket(), Permissions::from_mode(0o666)).unwrap();
    let refused = ask();
    assert_eq!(refused.code, 1);
    assert!(
        refused.error.contains("only root is answered"),
        "{refused:?}"
    );
}
