//! The daemon itself in a container, as a pod would have it: the machine's network, two privileges, a read-only root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docker::start_dockerd;
use crate::exchange::everything;
use crate::machine::{Machine, said, wait_for};
use crate::runtime::{DOCKER, PODMAN};
use crate::site::Site;

/// What a pod is given.
const GRANTED: [&str; 9] = [
    "--network=host",
    "--read-only",
    "--cap-drop=ALL",
    "--cap-add=NET_ADMIN",
    "--cap-add=NET_RAW",
    "--device=/dev/net/tun",
    "--volume=/run/flannel:/run/flannel",
    "--volume=/run/xtables.lock:/run/xtables.lock",
    "--env-file=/etc/default/flanneld",
];
/// As built for tests it is too large to be copied into every image.
pub(crate) const DAEMON: &str = concat!(
    "--volume=",
    env!("CARGO_BIN_EXE_flanneld"),
    ":/usr/bin/flanneld:ro"
);
const ASSEMBLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/image-root");
pub(crate) const IMAGE: &str = "system:lab";
const CNI: [&str; 1] = ["--network=cbr0"];

/// What runtimes of today forbid by default.
const WITHOUT_IO_URING: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO",
    "names": ["io_uring_setup", "io_uring_enter", "io_uring_register"]}]}"#;

/// The image of deploy/Dockerfile but for this project's programs.
pub(crate) fn system_image(directory: &Path) -> PathBuf {
    let (tree, image) = (directory.join("system"), directory.join("system.tar"));
    run_here(Command::new("sh").arg(ASSEMBLE).arg(&tree));
    // Programs of tests are not linked statically.
    let loaded = run_here(Command::new("ldd").arg(env!("CARGO_BIN_EXE_flanneld")));
    let libraries = loaded
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('/'));
    for library in libraries {
        let place = tree.join(library);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(Path::new("/").join(library), place).unwrap();
    }
    run_here(
        Command::new("tar")
            .arg("-C")
            .arg(&tree)
            .arg("-cf")
            .arg(&image)
            .arg("."),
    );
    image
}

fn run_here(command: &mut Command) -> String {
    said(&command.output().unwrap()).unwrap()
}

/// A machine whose docker knows that image, and whose podman the other one.
fn prepare(machine: &mut Machine, system: &Path, busybox: &Path) {
    machine.write("/run/xtables.lock", "");
    machine.write("/etc/flannel/seccomp.json", WITHOUT_IO_URING);
    // The daemon's container is on the machine's network; those on flannel's are podman's.
    machine.write(
        "/run/flannel/docker",
        "DOCKER_NETWORK_OPTIONS=--bridge=none\n",
    );
    start_dockerd(machine);
    machine.feed(&["/usr/bin/docker", "import", "-", IMAGE], system);
    PODMAN.import(machine, busybox);
}

/// Runs the daemon in a container with more flags, and waits until it is ready.
fn run(machine: &Machine, more: &[&str], words: &[&str]) {
    let group = format!("--cgroup-parent=/{}", machine.cgroup);
    let start = [
        "/usr/bin/docker",
        "run",
        "--detach",
        "--name=flanneld",
        &group,
    ];
    machine.run(
        &[
            &start,
            &GRANTED[..],
            &[DAEMON],
            more,
            &[IMAGE, "/usr/bin/flanneld"],
            words,
        ]
        .concat(),
    );
    wait_for("the daemon's subnet", || {
        assert_eq!(state(machine), "running", "{}", log(machine));
        log(machine).contains("] wrote ")
    });
}

fn state(machine: &Machine) -> String {
    machine.run(&[
        "/usr/bin/docker",
        "inspect",
        "--format",
        "{{.State.Status}}",
        "flanneld",
    ])
}

/// What the daemon has logged, to stdout or stderr.
fn log(machine: &Machine) -> String {
    machine.run(&["sh", "-c", "/usr/bin/docker logs flanneld 2>&1"])
}

fn site() -> Site {
    let mut site = Site::new(r#"{"Type":"vxlan"}"#);
    let (system, busybox) = (system_image(&site.directory()), site.image.clone());
    for machine in &mut site.machines {
        prepare(machine, &system, &busybox);
    }
    site
}

#[test]
fn a_daemon_in_a_container_with_two_privileges_connects_containers() {
    let site = site();
    for machine in &site.machines {
        run(machine, &[], &[]);
    }
    let one = PODMAN.run(&site.machines[0], "one", &CNI);
    let two = PODMAN.run(&site.machines[1], "two", &CNI);
    everything(&one, &two);
}

#[test]
fn a_daemon_in_a_container_without_io_uring_says_so_and_the_cure_works() {
    let site = site();
    let blocked = ["--security-opt=seccomp=/etc/flannel/seccomp.json"];
    for machine in &site.machines {
        run(machine, &blocked, &[]);
        let said = log(machine);
        for words in [
            "; plain system calls (",
            ", no io_uring, multishot reads: Operation not permitted",
        ] {
            assert!(said.contains(words), "no `{words}` in {said}");
        }
    }
    let one = PODMAN.run(&site.machines[0], "one", &CNI);
    let two = PODMAN.run(&site.machines[1], "two", &CNI);
    wait_for("an answer without io_uring", || one.reaches(two.address));
    DOCKER.remove(&site.machines[0], "flanneld");
    run(
        &site.machines[0],
        &["--security-opt=seccomp=unconfined"],
        &["--io=uring"],
    );
    let said = log(&site.machines[0]);
    assert!(said.contains("; io_uring, "), "{said}");
    wait_for("an answer with io_uring", || one.reaches(two.address));
}

/// What the machine itself is told when it sends to somebody the network does not have.
fn told_of_nobody(machine: &Machine) -> String {
    machine.run(&["sh", "-c", "ping -c 1 -W 1 10.5.255.9 || true"])
}

#[test]
fn a_daemon_that_may_not_change_the_nodes_settings_says_so_and_the_cures_work() {
    let site = site();
    let first = &site.machines[0];
    let set = |setting: &str| first.run(&["sysctl", "-w", setting]);
    set("net.ipv4.conf.all.rp_filter=1");
    for machine in &site.machines {
        run(machine, &[], &[]);
    }
    for words in [
        "/rp_filter: Read-only file system",
        "set it to 2 on this host",
        "/accept_local: Read-only file system",
        "set net.ipv4.conf.default.accept_local=1",
    ] {
        assert!(log(first).contains(words), "no `{words}` in {}", log(first));
    }
    let one = PODMAN.run(first, "one", &CNI);
    let two = PODMAN.run(&site.machines[1], "two", &CNI);
    wait_for("the first answer", || one.reaches(two.address));
    // What comes through the tunnel would go another way, as where one of two nodes sees a neighbour in the other.
    let far = format!("{}/32 via {}", two.address, Site::address(1));
    first.host.ip(&format!("route add {far}")).unwrap();
    assert!(!one.reaches(two.address), "the kernel is strict");
    set("net.ipv4.conf.all.rp_filter=2");
    wait_for("an answer after the cure", || one.reaches(two.address));
    let unreachable = "Destination Net Unreachable";
    assert!(!told_of_nobody(first).contains(unreachable));
    set("net.ipv4.conf.default.accept_local=1");
    DOCKER.remove(first, "flanneld");
    run(first, &[], &[]);
    assert!(!log(first).contains("accept_local"), "{}", log(first));
    wait_for("what the tunnel says", || {
        told_of_nobody(first).contains(unreachable)
    });
}
