//! deploy/mk-docker-opts.sh writes what docker units expect.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const SUBNET: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
const SINGLE: &str = "DOCKER_OPT_BIP=\"--bip=10.5.26.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\n";
const COMBINED: &str = "DOCKER_OPTS=\" --bip=10.5.26.1/24 --ip-masq=false --mtu=1450\"\n";

struct Scene(TempDir);

fn scene(subnet: &str) -> Scene {
    let scene = Scene(tempfile::tempdir().unwrap());
    fs::write(scene.path("subnet.env"), subnet).unwrap();
    scene
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the script in the scene's directory; its exit code.
    fn run(&self, words: &[&str], env: &[(&str, &str)]) -> i32 {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/mk-docker-opts.sh");
        let mut command = Command::new("sh");
        command
            .arg(script)
            .args(words)
            .envs(env.iter().copied())
            .current_dir(self.0.path());
        command.output().unwrap().status.code().unwrap()
    }

    /// What the script writes, reading the scene's subnet file.
    fn written(&self, words: &[&str], env: &[(&str, &str)]) -> String {
        let words = [&["-f", "subnet.env", "-d", "docker.env"], words].concat();
        assert_eq!(self.run(&words, env), 0);
        fs::read_to_string(self.path("docker.env")).unwrap()
    }
}

#[test]
fn by_default_there_are_single_options_and_all_together() {
    assert_eq!(
        scene(SUBNET).written(&[], &[]),
        format!("{SINGLE}{COMBINED}")
    );
}

#[test]
fn either_kind_can_be_had_alone() {
    assert_eq!(scene(SUBNET).written(&["-i"], &[]), SINGLE);
    assert_eq!(scene(SUBNET).written(&["-c"], &[]), COMBINED);
    assert_eq!(
        scene(SUBNET).written(&["-i", "-c"], &[]),
        format!("{SINGLE}{COMBINED}")
    );
}

#[test]
fn the_name_can_be_chosen_and_its_value_stays_in_front() {
    let wanted = "OPTS=\"--debug  --bip=10.5.26.1/24 --ip-masq=false --mtu=1450\"\n";
    assert_eq!(
        scene(SUBNET).written(&["-c", "-k", "OPTS"], &[("OPTS", "--debug")]),
        wanted
    );
}

#[test]
fn masquerading_can_be_left_to_docker() {
    let wanted = "DOCKER_OPTS=\" --bip=10.5.26.1/24 --mtu=1450\"\n";
    assert_eq!(scene(SUBNET).written(&["-c", "-m"], &[]), wanted);
}

#[test]
fn options_in_the_environment_join_in_alphabetical_order() {
    let wanted = "DOCKER_OPTS=\" --a --bip=10.5.26.1/24 --ip-masq=false --mtu=1450 --z\"\n";
    let env = [("DOCKER_OPT_ZED", "--z"), ("DOCKER_OPT_ALPHA", "--a")];
    assert_eq!(scene(SUBNET).written(&["-c"], &env), wanted);
}

#[test]
fn without_a_subnet_file_there_are_no_options() {
    let scene = scene("");
    assert_eq!(scene.run(&["-f", "absent.env", "-d", "docker.env"], &[]), 0);
    assert_eq!(
        fs::read_to_string(scene.path("docker.env")).unwrap(),
        "DOCKER_OPTS=\"\"\n"
    );
}

#[test]
fn written_over_the_subnet_file_its_lines_stay() {
    // One guide does so; the daemon then finds no subnet to ask for again.
    let scene = scene(SUBNET);
    assert_eq!(
        scene.run(&["-f", "subnet.env", "-d", "./subnet.env"], &[]),
        0
    );
    assert_eq!(
        fs::read_to_string(scene.path("subnet.env")).unwrap(),
        format!("{SUBNET}{SINGLE}{COMBINED}")
    );
}

#[test]
fn nonsense_is_refused() {
    let scene = scene("FLANNEL_IPMASQ=perhaps\n");
    assert_eq!(scene.run(&["-f", "subnet.env", "-d", "docker.env"], &[]), 1);
    for words in [&["-h"][..], &["-x"], &["-k", "a b"]] {
        assert_eq!(scene.run(words, &[]), 1, "{words:?}");
    }
    assert!(!scene.path("docker.env").exists());
}
