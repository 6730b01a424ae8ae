//! Each question on a good day: what a new operator asks first.

use std::path::PathBuf;

use benches::{Path, PathSpec, Profile, Side};
use serde_json::{Value, json};

use super::scene::{Answer, ask, flanneld};

/// Two nodes whose containers have talked, and the socket of the first.
fn up(name: &str) -> (Path, PathBuf) {
    let spec: PathSpec = name.parse().unwrap();
    let path = Path::up(&spec, Profile::Offload, &flanneld()).unwrap();
    let socket = path.lab().scratch().join("subnet-A.env.sock");
    let (container, _) = path.container(Side::A);
    let (_, far) = path.container(Side::B);
    container.run(&format!("ping -c 20 -i 0.01 {far}")).unwrap();
    (path, socket)
}

fn well(answer: Answer) -> Value {
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.json()
}

fn count<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let counters = stats["counters"].as_array().unwrap();
    let found = counters.iter().find(|count| count["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {stats}"))
}

#[test]
fn status_tells_what_the_daemon_does_and_that_it_is_well() {
    let (path, socket) = up("vxlan");
    let status = well(ask(&socket, "status --json"));
    let subnet = path.subnet(Side::A).to_string();
    assert_eq!(status["healthy"], true);
    assert_eq!(status["problems"], json!([]));
    assert_eq!(status["lease"]["subnets"], json!([subnet]));
    assert_eq!(status["lease"]["standing"], "held");
    assert_eq!(status["node"]["interface"], "eth0");
    assert_eq!(status["node"]["public"], json!(["192.168.77.1"]));
    assert_eq!(status["network"]["backend"], "vxlan");
    assert_eq!(status["network"]["carried_by"], "engine");
    assert_eq!(status["network"]["mtu"], path.mtu());
    assert_eq!(status["store"]["kind"], "file");
    assert_eq!(status["store"]["answers"], true);
    assert_eq!(status["others"]["routes"], 1);
    assert_eq!(status["engine"]["device"], "flannel0");
    assert_eq!(status["engine"]["answers"], true);
    let page = ask(&socket, "status").out;
    for words in ["is well", &subnet, "vxlan by engine", "flannel0", "eth0"] {
        assert!(page.contains(words), "no {words:?} in\n{page}");
    }
}

#[test]
fn lease_tells_since_when_and_how_long() {
    let (path, socket) = up("udp");
    let lease = well(ask(&socket, "lease --json"));
    assert_eq!(lease["subnets"], json!([path.subnet(Side::A).to_string()]));
    assert_eq!(lease["reserved"], false);
    let seconds = |name: &str| lease[name].as_u64().unwrap();
    assert!(seconds("renewal_in_seconds") < seconds("expires_in_seconds"));
    assert!(seconds("expires_in_seconds") <= 86_400);
    assert!(lease["record"].as_str().unwrap().contains("192.168.77.1"));
    assert!(ask(&socket, "lease").out.contains("renewed"));
}

#[test]
fn peers_and_routes_tell_where_packets_go() {
    let (path, socket) = up("vxlan");
    let subnet = path.subnet(Side::B).to_string();
    let peers = well(ask(&socket, "peers --json"));
    let peer = &peers["peers"][0];
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1);
    assert_eq!(peer["address"], "192.168.77.2");
    assert_eq!(peer["subnets"], json!([subnet]));
    assert_eq!(peer["form"], "vxlan");
    assert_eq!(peer["mtu"], path.mtu());
    assert_eq!(peer["mac"].as_str().unwrap().len(), 17);
    let traffic = &peer["traffic"];
    for name in ["sent_packets", "received_packets"] {
        assert!(traffic[name].as_u64().unwrap() >= 20, "{traffic}");
    }
    assert_eq!(traffic["unsent_packets"], 0);
    assert!(traffic["seen_seconds_ago"].is_u64(), "{traffic}");
    let routes = well(ask(&socket, "routes --json"));
    assert_eq!(
        routes["routes"],
        json!([{"subnet": subnet, "peer": "192.168.77.2", "form": "vxlan", "device": "flannel0"}])
    );
    assert!(ask(&socket, "routes").out.contains(&subnet));
}

#[test]
fn status_and_peers_tell_in_which_form_each_node_is_sent_packets() {
    let (path, socket) = up("vxlan+forms=vxlan,udp");
    let lease = r#"{"PublicIP":"192.168.77.9"}"#;
    std::fs::write(path.records().join("10.5.200.0-24"), lease).unwrap();
    let known = || well(ask(&socket, "status --json"))["others"]["routes"] == 2;
    assert!((0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        known()
    }));
    let status = well(ask(&socket, "status --json"));
    let beside = json!({ "name": "udp", "port": 8285 });
    assert_eq!(status["network"]["beside"], beside);
    assert_eq!(status["others"]["udp"], 1);
    assert_eq!(status["others"]["vxlan"], 1);
    let page = ask(&socket, "status").out;
    for words in [
        "vxlan and udp by engine",
        "(1 in UDP form, 1 in VXLAN form)",
    ] {
        assert!(page.contains(words), "no {words:?} in\n{page}");
    }
    let peers = well(ask(&socket, "peers --json"));
    let peers = peers["peers"].as_array().unwrap().iter();
    let forms: Vec<_> = peers
        .map(|peer| (&peer["address"], &peer["form"]))
        .collect();
    assert_eq!(
        json!(forms),
        json!([["192.168.77.2", "vxlan"], ["192.168.77.9", "udp"]])
    );
}

#[test]
fn stats_of_all_workers_add_up_to_the_total() {
    let (_path, socket) = up("udp+workers=2");
    let stats = well(ask(&socket, "stats --json"));
    let sent = count(&stats, "to_underlay_packets");
    let workers = sent["workers"].as_array().unwrap();
    let sum: u64 = workers.iter().map(|one| one.as_u64().unwrap()).sum();
    assert_eq!(workers.len(), 2);
    assert_eq!(sent["total"], sum);
    assert!(sum >= 20, "{stats}");
    let page = ask(&socket, "stats").out;
    assert!(page.contains("WORKER 1") && page.contains("to_underlay_packets"));
}

#[test]
fn drops_tell_reasons_and_rates() {
    let (path, socket) = up("udp");
    let (container, _) = path.container(Side::A);
    assert!(container.run("ping -c 3 -i 0.01 -W 1 10.5.255.1").is_err());
    let drops = well(ask(&socket, "drops --json --interval 0.1"));
    let reasons = drops["reasons"].as_array().unwrap();
    let found = reasons.iter().find(|one| one["reason"] == "out_no_route");
    let found = found.unwrap();
    assert_eq!(found["packets"], 3);
    assert_eq!(found["per_second"], 0.0);
    let summary = format!("{} > 10.5.255.1 icmp", path.subnet(Side::A).container());
    assert_eq!(found["example"]["summary"], summary);
    assert_eq!(found["example"]["length"], 84);
    let page = ask(&socket, "drops --interval 0.1").out;
    assert!(page.contains("out_no_route") && page.contains("nobody owns the destination"));
}
