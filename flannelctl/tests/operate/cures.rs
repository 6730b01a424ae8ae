//! What goes wrong between nodes, and the commands that find it.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use benches::{Path, PathSpec, Profile, Side};

use super::scene::{Answer, ask, flanneld, tool};

pub(crate) fn up(name: &str) -> (Path, PathBuf) {
    let spec: PathSpec = name.parse().unwrap();
    let path = Path::up(&spec, Profile::Offload, &flanneld()).unwrap();
    let socket = path.lab().scratch().join("subnet-A.env.sock");
    (path, socket)
}

/// Runs the tool on node A, where routes and settings are those of the node.
pub(crate) fn on_node(path: &Path, socket: &std::path::Path, words: &str) -> Answer {
    let program = tool(socket, words);
    let node = path.lab().node(Side::A);
    let name = program.get_program().to_string_lossy();
    let mut command = node.command(&name).unwrap();
    command.args(program.get_args()).output().unwrap().into()
}

pub(crate) fn finds(answer: &Answer, words: &[&str]) {
    for word in words {
        assert!(answer.out.contains(word), "no {word:?} in {answer:?}");
    }
}

#[test]
fn doctor_finds_nothing_wrong_with_two_good_nodes() {
    let (path, socket) = up("vxlan");
    let answer = on_node(&path, &socket, "doctor");
    assert_eq!(answer.code, 0, "{answer:?}");
    let reached = "192.168.77.2 is reached through the tunnel, also by packets of 1450 bytes";
    finds(
        &answer,
        &["ok  daemon: it is well", reached, "leads into flannel0"],
    );
}

#[test]
fn doctor_finds_a_path_that_large_packets_do_not_pass() {
    let (path, socket) = up("udp");
    let narrow = "iptables -w -t raw -A PREROUTING -i eth0 -m length --length 1401:65535 -j DROP";
    path.lab().node(Side::B).run(narrow).unwrap();
    let answer = on_node(&path, &socket, "doctor");
    assert_eq!(answer.code, 1, "{answer:?}");
    let found = "192.168.77.2 is reached by packets of 1372 bytes, but not of 1472";
    finds(
        &answer,
        &["BAD mtu", found, "lower the interface's MTU by 100"],
    );
}

#[test]
fn doctor_finds_settings_of_the_host_that_keep_packets_back() {
    let (path, socket) = up("udp");
    let node = path.lab().node(Side::A);
    node.set("net/ipv4/ip_forward", "0").unwrap();
    node.ip("link set pod0 mtu 1500\nlink set cni0 mtu 1500")
        .unwrap();
    let answer = on_node(&path, &socket, "doctor --json");
    assert_eq!(answer.code, 1, "{answer:?}");
    let document = answer.json();
    let findings = document["findings"].as_array().unwrap().iter();
    let bad = findings.filter(|finding| finding["verdict"] == "bad");
    let bad: Vec<&str> = bad
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    assert_eq!(bad, ["forwarding", "bridge"], "{answer:?}");
    assert!(
        answer.out.contains("sysctl -w net.ipv4.ip_forward=1"),
        "{answer:?}"
    );
}

#[test]
fn ping_names_the_hop_that_fails() {
    let (mut path, socket) = up("udp");
    let inside = path.subnet(Side::B).container().to_string();
    for target in ["192.168.77.2", &inside] {
        let answer = on_node(&path, &socket, &format!("ping {target}"));
        assert_eq!(answer.code, 0, "{answer:?}");
        finds(&answer, &["is reached through the tunnel"]);
    }
    let lost = |path: &Path, words: &str, hop: &str| {
        let answer = on_node(path, &socket, words);
        assert_eq!(answer.code, 1, "{answer:?}");
        finds(&answer, &[&format!("Lost at: {hop}")]);
    };
    lost(&path, "ping 192.168.77.9", "the table here");
    lost(&path, "ping 192.168.77.2 --size 3000", "the path");
    path.daemon(Side::B).unwrap().stop().unwrap();
    lost(
        &path,
        "ping 192.168.77.2",
        "the node 192.168.77.2, or a firewall before it",
    );
    path.lab().node(Side::B).ip("link set eth0 down").unwrap();
    lost(&path, "ping 192.168.77.2", "the underlay");
}

#[test]
fn ping_and_doctor_tell_who_carries_packets_to_a_node() {
    let plain = "by a plain route, without the tunnel";
    let kernel = "through the kernel's tunnel";
    let ways = [
        (
            "host-gw",
            "plain",
            "the node 192.168.77.2 itself is reached",
            plain,
        ),
        (
            "vxlan+vxlan-datapath=kernel",
            "kernel",
            "192.168.77.2 is reached through",
            kernel,
        ),
    ];
    for (name, word, of_node, way) in ways {
        let (path, socket) = up(name);
        let told = |words: &str| on_node(&path, &socket, words);
        let inside = path.container(Side::B).1;
        finds(&told("ping 192.168.77.2"), &[of_node, way]);
        let there = format!("{inside} is reached {way}");
        finds(
            &told(&format!("ping {inside}")),
            &[&there, "3 of 3 packets"],
        );
        let answer = told(&format!("ping {inside} --json"));
        assert_eq!(answer.json()["way"], word, "{answer:?}");
        let doctor = told("doctor");
        assert_eq!(doctor.code, 0, "{doctor:?}");
        finds(&doctor, &["ok  path: 192.168.77.2", way]);
        path.lab().node(Side::B).ip("link set eth0 down").unwrap();
        let lost = told("ping 192.168.77.2 --count 1");
        assert_eq!(lost.code, 1, "{lost:?}");
        finds(
            &lost,
            &["the kernel carries these packets", "look at routes"],
        );
        finds(
            &told("doctor"),
            &["BAD path: 192.168.77.2 is not reached", way],
        );
    }
}

#[test]
fn a_spoofing_neighbour_is_found_with_drops() {
    let (path, socket) = up("udp");
    let node = path.lab().node(Side::B);
    node.ip("addr add 192.168.77.66/24 dev eth0").unwrap();
    let mut packet = vec![0; 28];
    (packet[0], packet[3], packet[8], packet[9]) = (0x45, 28, 64, 17);
    packet[12..16].copy_from_slice(&[10, 5, 9, 9]);
    packet[16..20].copy_from_slice(&path.subnet(Side::A).container().octets());
    let send = || UdpSocket::bind("192.168.77.66:0")?.send_to(&packet, "192.168.77.1:8285");
    node.enter(send).unwrap();
    let answer = (0..100).find_map(|_| {
        let answer = ask(&socket, "drops --interval 0.1");
        answer.out.contains("in_not_a_peer").then_some(answer)
    });
    let answer = answer.expect("the packet is counted");
    finds(
        &answer,
        &[
            "192.168.77.66",
            "10.5.9.9:0 > 10.5.",
            "the outer source is no current peer",
        ],
    );
}

/// How many packets a capture has of each interface, and the comments.
fn captured(file: &[u8]) -> (Vec<usize>, String) {
    let word = |at: usize| u32::from_ne_bytes(*file[at..].first_chunk().unwrap());
    let (mut at, mut counts) = (0, Vec::new());
    while at < file.len() {
        match word(at) {
            1 => counts.push(0),
            6 => counts[word(at + 8) as usize] += 1,
            _ => {}
        }
        at += word(at + 4) as usize;
    }
    (counts, String::from_utf8_lossy(file).into_owned())
}

/// Captures on node A while packets pass that are wanted and others that are not.
fn capture(path: &Path, socket: &std::path::Path, words: &str) -> (Vec<usize>, String) {
    let file = path.lab().scratch().join("capture.pcapng");
    let program = tool(socket, &format!("capture {} {words}", file.display()));
    let node = path.lab().node(Side::A);
    let name = program.get_program().to_string_lossy();
    let mut command = node.command(&name).unwrap();
    let mut child = command.args(program.get_args()).spawn().unwrap();
    let (container, far) = (path.container(Side::A).0, path.container(Side::B).1);
    while child.try_wait().unwrap().is_none() {
        // Whether answers come in time is not what is tested here.
        let _ = container.run(&format!("ping -c 1 -W 1 {far}"));
        let _ = container.run("ping -c 1 -W 0.1 10.5.255.9");
        let _ = node.run("ping -c 1 -W 1 192.168.77.2");
    }
    assert!(child.wait().unwrap().success());
    captured(&std::fs::read(&file).unwrap())
}

#[test]
fn a_capture_has_packets_inside_and_around_the_tunnel_and_why_some_were_dropped() {
    let (path, socket) = up("vxlan");
    let (counts, _) = capture(&path, &socket, "--seconds 4 --host 192.168.77.2");
    assert_eq!(counts[0], 0, "no inner packet has the node's own address");
    assert!(counts[1] >= 2, "datagrams each way: {counts:?}");
    assert_eq!(counts[2], 0, "nothing of the node was dropped: {counts:?}");
    let (counts, text) = capture(&path, &socket, "--seconds 20 --what dropped --packets 3");
    assert_eq!(counts, [3]);
    assert!(text.contains("dropped: out_no_route, from this host"));
    let inner = format!(
        "--what inner --packets 4 --host {}",
        path.container(Side::B).1
    );
    assert_eq!(capture(&path, &socket, &inner).0, [4]);
}

#[test]
fn metrics_are_answered_on_the_loopback_address_only() {
    let (path, _socket) = up("udp+metrics-port=9472");
    let (container, _) = path.container(Side::A);
    let (_, far) = path.container(Side::B);
    container.run(&format!("ping -c 5 -i 0.01 {far}")).unwrap();
    let ask = |address: &str| {
        path.lab().node(Side::A).enter(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    };
    let answer = ask("127.0.0.1:9472").unwrap();
    assert!(
        answer.contains("Content-Type: application/openmetrics-text"),
        "{answer}"
    );
    let value = |name: &str| {
        let line = answer.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {answer}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let sent = r#"flannel_forward_packets_total{worker="0",direction="out"}"#;
    assert!(value(sent) >= 5.0, "{answer}");
    assert_eq!(value("flannel_healthy"), 1.0);
    assert_eq!(value("flannel_routes"), 1.0);
    assert!(value("flannel_out_batch_packets_count") > 0.0, "{answer}");
    assert!(ask("192.168.77.1:9472").is_err());
}

#[test]
fn a_config_is_checked_before_it_is_rolled_out() {
    let (path, socket) = up("vxlan");
    let check = |config: &str| -> Answer {
        let mut command = tool(&socket, "config check -");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Command::spawn(&mut command).unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(config.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap().into()
    };
    let good = check(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#);
    assert_eq!(good.code, 0, "{good:?}");
    finds(
        &good,
        &[
            "can be used",
            "packets of 1450 bytes, eth0 here carries 1500",
        ],
    );
    let moved = check(r#"{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan"}}"#);
    let subnet = path.subnet(Side::A);
    finds(
        &moved,
        &[&format!("this node's subnet {subnet} does not fit")],
    );
    let bad = check(r#"{"Network":"10.5.0.0/16","SubnetLen":8}"#);
    assert_eq!(bad.code, 1, "{bad:?}");
    finds(&bad, &["cannot be used"]);
}
