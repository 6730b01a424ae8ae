//! The plugin with the CNI project's own `bridge` and `host-local` behind it, in network namespaces.
//!
//! Needs root, and Debian's containernetworking-plugins; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use benches::Namespace;
use serde_json::{Value, json};
use tempfile::TempDir;

const PLUGINS: &str = "/usr/lib/cni";

/// A node with a subnet, and containers on it.
struct Node {
    host: Namespace,
    dir: TempDir,
}

impl Node {
    fn new(subnet: &str) -> Self {
        let (host, dir) = (Namespace::new().unwrap(), tempfile::tempdir().unwrap());
        fs::write(dir.path().join("subnet.env"), subnet).unwrap();
        Self { host, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, more: &Value) -> String {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "cbr0", "type": "flannel",
            "subnetFile": self.path("subnet.env"), "dataDir": self.path("state"),
            "ipam": {"dataDir": self.path("networks")},
            "delegate": {"isDefaultGateway": true, "hairpinMode": true},
        });
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        config.to_string()
    }

    /// Calls the plugin for a container; the result, or the error object.
    fn call(&self, command: &str, container: &Namespace, more: &Value) -> Result<Value, Value> {
        let input = self.path("input");
        fs::write(&input, self.config(more)).unwrap();
        let mut call = self.host.command(env!("CARGO_BIN_EXE_flannel")).unwrap();
        call.env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", name(container))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", container.path())
            .env("CNI_PATH", PLUGINS)
            .stdin(fs::File::open(input).unwrap())
            .stderr(Stdio::inherit());
        let output = call.output().unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match output.status.success() {
            true => Ok(said),
            false => Err(said),
        }
    }

    /// What host-local has given out.
    fn taken(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("networks/cbr0"))
            .into_iter()
            .flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut taken: Vec<_> = names
            .filter(|name| name.starts_with(|first: char| first.is_ascii_hexdigit()))
            .collect();
        taken.sort();
        taken
    }
}

/// An id that is different for every namespace.
fn name(container: &Namespace) -> String {
    container
        .path()
        .replace('/', "-")
        .trim_start_matches('-')
        .to_owned()
}

fn pings(from: &Namespace, to: &str) {
    from.run(&format!("ping -n -c 1 -W 5 {to}")).unwrap();
}

#[test]
fn two_containers_reach_each_other_and_the_node_in_both_families() {
    let node = Node::new(
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
         FLANNEL_IPV6_SUBNET=fd05:0:0:50::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n",
    );
    let containers = [Namespace::new().unwrap(), Namespace::new().unwrap()];
    let none = json!({});
    let added = containers
        .each_ref()
        .map(|one| node.call("ADD", one, &none).unwrap());
    assert_eq!(added[0]["ips"][0]["address"], json!("10.5.26.2/24"));
    assert_eq!(added[1]["ips"][1]["address"], json!("fd05:0:0:50::3/64"));
    for other in ["10.5.26.3", "fd05:0:0:50::3", "10.5.26.1", "fd05:0:0:50::1"] {
        pings(&containers[0], other);
    }
    let inside = containers[0].run("ip -oneline link show dev eth0").unwrap();
    assert!(inside.contains("mtu 1430"), "{inside}");
    let routes = containers[0].run("ip -4 route show").unwrap();
    assert!(routes.contains("10.5.0.0/16 via 10.5.26.1"), "{routes}");
    let check = json!({"prevResult": added[0]});
    node.call("CHECK", &containers[0], &check).unwrap();
    for container in &containers {
        node.call("DEL", container, &none).unwrap();
        container.run("ip link show dev eth0").unwrap_err();
    }
    assert!(node.taken().is_empty() && fs::read_dir(node.path("state")).unwrap().count() == 0);
}

#[test]
fn a_container_that_could_not_be_deleted_gives_its_address_back_the_next_time() {
    let node = Node::new(
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
    );
    let (container, none) = (Namespace::new().unwrap(), json!({}));
    node.call("ADD", &container, &none).unwrap();
    assert_eq!(node.taken(), ["10.5.26.2"]);
    // host-local stumbles over a directory where its lock should be.
    let lock = node.path("networks/cbr0/lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let error = node.call("DEL", &container, &none).unwrap_err();
    assert_eq!(node.taken(), ["10.5.26.2"], "{error}");
    fs::remove_dir(&lock).unwrap();
    node.call("DEL", &container, &none).unwrap();
    assert!(node.taken().is_empty());
}

#[test]
fn a_bridge_of_an_earlier_subnet_is_named_with_the_cure_and_the_cure_works() {
    let subnet = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    let node = Node::new(subnet);
    let (before, after, none) = (
        Namespace::new().unwrap(),
        Namespace::new().unwrap(),
        json!({}),
    );
    node.call("ADD", &before, &none).unwrap();
    fs::write(
        node.path("subnet.env"),
        subnet.replace("10.5.26.1", "10.5.27.1"),
    )
    .unwrap();
    let error = node.call("ADD", &after, &none).unwrap_err();
    assert!(
        error["details"]
            .as_str()
            .unwrap()
            .contains("ip link delete cni0"),
        "{error}"
    );
    for container in [&before, &after] {
        node.call("DEL", container, &none).unwrap();
    }
    node.host.run("ip link delete cni0").unwrap();
    let added = node.call("ADD", &after, &none).unwrap();
    let address = added["ips"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("10.5.27."), "{address}");
    pings(&after, "10.5.27.1");
}
