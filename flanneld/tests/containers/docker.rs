//! docker on the flannel subnet, both started as their units say.

use std::time::Instant;

use crate::exchange::{everything, seen_as};
use crate::machine::{Machine, wait_for};
use crate::runtime::{Container, DOCKER};
use crate::site::{Site, flanneld};
use crate::unit::Unit;

/// Containers come back with their runtime.
const FLAGS: [&str; 1] = ["--restart=always"];
/// Which containers there are, one a machine.
const NAMES: [&str; 2] = ["one", "two"];

/// docker's unit with this project's piece of it; a socket and a group of the machine's own.
fn dockerd(machine: &Machine) -> Unit {
    let own = format!(
        "-H unix:///run/docker.sock --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{}",
        machine.cgroup
    );
    Unit::shipped("dockerd", "docker-flannel.conf").with(
        "-H fd:// --containerd=/run/containerd/containerd.sock",
        &own,
    )
}

pub(crate) fn start_dockerd(machine: &mut Machine) {
    let unit = dockerd(machine);
    unit.start(machine);
}

/// Two machines with a container each.
fn site(backend: &str) -> Site {
    let mut site = Site::new(backend);
    let begun = Instant::now();
    site.start_flanneld();
    for (machine, name) in site.machines.iter_mut().zip(NAMES) {
        start_dockerd(machine);
        DOCKER.import(machine, &site.image);
        DOCKER.run(machine, name, &FLAGS);
    }
    let [one, two] = containers(&site);
    wait_for("the first answer", || one.reaches(two.address));
    println!(
        "docker, {backend}: a container answers {:?} after flanneld was started",
        begun.elapsed()
    );
    site
}

fn containers(site: &Site) -> [Container<'_>; 2] {
    [0, 1].map(|number| DOCKER.find(&site.machines[number], NAMES[number]))
}

/// Containers and machines reach each other.
fn all_reach_all(site: &Site) {
    let [one, two] = containers(site);
    for (near, far, machine) in [(&one, &two, 1), (&two, &one, 0)] {
        wait_for("an answer from container to container", || {
            near.reaches(far.address)
        });
        wait_for("an answer from a machine", || {
            near.reaches(Site::address(machine))
        });
        let ping = format!("ping -n -c 1 -W 1 {}", far.address);
        wait_for("an answer to a machine", || {
            near.machine.host.run(&ping).is_ok()
        });
    }
}

/// The whole of it over one backend, with a node of stock flannel among the leases.
fn carries(backend: &str, stock: &str) {
    let site = site(backend);
    site.put_stock_lease(stock);
    site.await_leases(3);
    let [one, two] = containers(&site);
    for machine in &site.machines {
        let rules = machine.run(&["iptables", "-S", "FORWARD"]);
        assert!(
            rules.contains("-P FORWARD DROP"),
            "docker keeps strangers out: {rules}"
        );
    }
    all_reach_all(&site);
    everything(&one, &two);
    for (number, container) in [&one, &two].into_iter().enumerate() {
        let seen = seen_as(container, &site.switch, site.outside());
        assert_eq!(
            seen,
            Site::address(number),
            "containers are masqueraded outside"
        );
    }
}

#[test]
fn docker_containers_exchange_everything_in_udp_form() {
    carries(r#"{"Type":"udp"}"#, "");
}

#[test]
fn docker_containers_exchange_everything_in_vxlan_form() {
    let stock = r#","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"5e:f8:4f:00:e3:37"}"#;
    carries(r#"{"Type":"vxlan"}"#, stock);
}

#[test]
fn docker_containers_exchange_everything_over_plain_routes() {
    carries(r#"{"Type":"host-gw"}"#, r#","BackendType":"host-gw""#);
}

#[test]
fn flanneld_and_dockerd_are_restarted_in_any_order() {
    let mut site = site(r#"{"Type":"udp"}"#);
    let subnet = site.machines[0].run(&["cat", "/run/flannel/subnet.env"]);
    let orders: [&[&str]; 4] = [
        &["-flanneld", "+flanneld"],
        &["-dockerd", "+dockerd"],
        &["-dockerd", "-flanneld", "+flanneld", "+dockerd"],
        &["-flanneld", "-dockerd", "+dockerd", "+flanneld"],
    ];
    for order in orders {
        let machine = &mut site.machines[0];
        for step in order {
            match *step {
                "-flanneld" => machine.stop("flanneld"),
                "-dockerd" => machine.stop("dockerd"),
                "+flanneld" => flanneld().start(machine),
                _ => start_dockerd(machine),
            }
        }
        let now = machine.run(&["cat", "/run/flannel/subnet.env"]);
        assert_eq!(now, subnet, "after {order:?}");
        all_reach_all(&site);
    }
}
