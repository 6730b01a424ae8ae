//! podman, which takes its networks from CNI configs: the one this project ships, with the plugin it ships.

use std::time::Instant;

use crate::exchange::{everything, seen_as};
use crate::machine::wait_for;
use crate::runtime::PODMAN;
use crate::site::Site;

const NETWORK: [&str; 1] = ["--network=cbr0"];

/// Containers on both machines, with a port of the first machine's that leads into one of them.
fn carries(backend: &str, stock: &str) {
    let mut site = Site::new(backend);
    site.put_stock_lease(stock);
    for machine in &site.machines {
        PODMAN.import(machine, &site.image);
    }
    let begun = Instant::now();
    site.start_flanneld();
    let flags = [&NETWORK[..], &["--publish=8080:80"]].concat();
    let one = PODMAN.run(&site.machines[0], "one", &flags);
    let two = PODMAN.run(&site.machines[1], "two", &NETWORK);
    wait_for("the first answer", || one.reaches(two.address));
    println!(
        "podman, {backend}: a container answers {:?} after flanneld was started",
        begun.elapsed()
    );
    site.await_leases(3);
    everything(&one, &two);
    everything(&two, &one);
    assert!(two.reaches(Site::address(0)), "containers reach machines");
    let seen = seen_as(&one, &site.switch, site.outside());
    assert_eq!(seen, Site::address(0), "containers are masqueraded outside");
    one.run("echo here > /www/index.html");
    let published = two.run(&format!("wget -q -O - http://{}:8080/", Site::address(0)));
    assert_eq!(published, "here");
    remove(&site);
}

/// Removes the containers; nothing is left of them.
fn remove(site: &Site) {
    for (machine, name) in site.machines.iter().zip(["one", "two"]) {
        PODMAN.remove(machine, name);
        let kept = machine.run(&["find", "/var/lib/cni/flannel", "-type", "f"]);
        let taken = machine.run(&["find", "/var/lib/cni/networks/cbr0", "-name", "[0-9f]*"]);
        assert_eq!(
            (kept.as_str(), taken.as_str()),
            ("", ""),
            "something is left of a container"
        );
    }
}

#[test]
fn podman_containers_exchange_everything_in_udp_form() {
    carries(r#"{"Type":"udp"}"#, "");
}

#[test]
fn podman_containers_exchange_everything_in_vxlan_form() {
    let stock = r#","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"5e:f8:4f:00:e3:37"}"#;
    carries(r#"{"Type":"vxlan"}"#, stock);
}

#[test]
fn podman_containers_exchange_everything_in_both_families() {
    let mut site = Site::with_both_families(r#"{"Type":"vxlan"}"#);
    site.start_flanneld();
    for machine in &site.machines {
        PODMAN.import(machine, &site.image);
    }
    let one = PODMAN.run(&site.machines[0], "one", &NETWORK);
    let two = PODMAN.run(&site.machines[1], "two", &NETWORK);
    everything(&one, &two);
    everything(&one.in_ipv6(), &two.in_ipv6());
    remove(&site);
}
