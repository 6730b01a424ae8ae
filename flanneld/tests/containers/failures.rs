//! What goes wrong on machines with containers: each is told with its cure, and the cure works.

use crate::machine::{Machine, wait_for};
use crate::runtime::PODMAN;
use crate::site::{Site, flanneld};

const UDP: &str = r#"{"Type":"udp"}"#;

#[test]
fn without_a_subnet_file_a_container_is_refused_until_flanneld_runs() {
    let mut site = Site::new(UDP);
    let machine = &mut site.machines[0];
    PODMAN.import(machine, &site.image);
    let refused = PODMAN.try_run(machine, "early", &["--network=cbr0"]);
    let refused = refused.unwrap_err();
    for word in [
        "/run/flannel/subnet.env",
        "see whether flanneld runs on this node",
    ] {
        assert!(refused.contains(word), "no `{word}` in {refused}");
    }
    PODMAN.remove(machine, "early");
    flanneld().start(machine);
    PODMAN.run(machine, "late", &["--network=cbr0"]);
}

/// Starts the daemon where it cannot come up; what it says before it ends.
fn fails(machine: &mut Machine) -> String {
    let mut command = machine.command("/usr/bin/flanneld");
    let settings = std::fs::read_to_string(machine.path("/etc/default/flanneld")).unwrap();
    let settings = settings.lines().filter_map(|line| line.split_once('='));
    command.envs(settings);
    machine.start("flanneld", command);
    wait_for("the daemon to end", || !machine.runs("flanneld"));
    machine.log("flanneld")
}

#[test]
fn without_a_tun_device_the_cure_is_named_and_works() {
    let mut site = Site::new(UDP);
    let machine = &mut site.machines[0];
    // As in a container that was not given the device.
    machine.run(&["mount", "-t", "tmpfs", "tmpfs", "/dev/net"]);
    let said = fails(machine);
    assert!(
        said.contains("give the container the device /dev/net/tun"),
        "{said}"
    );
    machine.run(&["mknod", "/dev/net/tun", "c", "10", "200"]);
    flanneld().start(machine);
}
