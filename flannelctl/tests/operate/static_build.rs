//! The build without libraries, on machines on which there is nothing else: no loader, no shell, no firewall tools.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use benches::daemon::Daemon;
use benches::etcd::Etcd;
use benches::namespace::Namespace;
use benches::{Lab, Profile, Side};

use super::scene::{Answer, CONFIG, UDP, patiently, tool};

/// What the store is called.
const STORE: &str = "store.example";
/// Where daemons leave word by themselves.
const SOCKET: &str = "run/flannel/subnet.env.sock";
/// A system that would have the C library load something.
const SWITCH: &str = "hosts: mymachines resolve [!UNAVAIL=return]\n";

/// Builds the daemon that way, apart from what others build here; says where it is.
fn build(into: &Path) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut script = Command::new(project.join("scripts/static"));
    // As root the tools of who runs the tests may not be on the path.
    let tools = Path::new(env!("CARGO")).parent().unwrap().display();
    let path = std::env::var("PATH").unwrap_or_default();
    script.env("PATH", format!("{tools}:{path}"));
    script.env(
        "CARGO_TARGET_DIR",
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("static"),
    );
    script.args(["--profile", "dev", "--output"]).arg(into);
    let built: Answer = script.arg("flanneld").output().unwrap().into();
    assert_eq!(built.code, 0, "{built:?}");
    into.join("flanneld")
}

/// A root with the daemon, the device it opens, and the files named.
fn root(place: PathBuf, daemon: &Path, files: &[(&str, &str)]) -> PathBuf {
    for directory in ["dev/net", "etc"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
    fs::copy(daemon, place.join("flanneld")).unwrap();
    for (name, text) in files {
        fs::write(place.join(name), text).unwrap();
    }
    let device = place.join("dev/net/tun");
    let mut mknod = Command::new("mknod");
    assert!(
        mknod
            .arg(device)
            .args(["c", "10", "200"])
            .status()
            .unwrap()
            .success()
    );
    place
}

/// Tells whoever asks that every name is at this address.
fn serve_names(node: &Namespace, told: Ipv4Addr) {
    let socket = node.enter(|| UdpSocket::bind((told, 53))).unwrap();
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut question) {
            let answer = answer(&question[..length], told);
            let _ = socket.send_to(&answer, asker);
        }
    });
}

/// The question again, with one address where one of IPv4 was asked for.
fn answer(question: &[u8], told: Ipv4Addr) -> Vec<u8> {
    const HEADER: usize = 12;
    let name = question[HEADER..]
        .iter()
        .position(|&byte| byte == 0)
        .unwrap();
    let end = HEADER + name + 5;
    let wants_ipv4 = question[HEADER + name + 2] == 1;
    let mut answer = question[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, wants_ipv4.into(), 0, 0, 0, 0]);
    if wants_ipv4 {
        // The name that was asked for, an address of the internet, for a minute, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(told.octets());
    }
    answer
}

fn start(lab: &Lab, side: Side, root: &Path, port: u16) -> Daemon {
    let mut command = lab.node(side).command("chroot").unwrap();
    command.arg(root).arg("/flanneld").arg("--iface=eth0");
    command.arg(format!("--etcd-endpoints=http://{STORE}:{port}"));
    Daemon::start(&mut command, &lab.scratch().join(format!("log-{side:?}"))).unwrap()
}

#[test]
fn a_static_daemon_finds_its_store_by_name_and_carries_packets_where_there_is_nothing_else() {
    let lab = Lab::new(Profile::Offload).unwrap();
    let daemon = build(&lab.scratch().join("static"));
    let store = Side::A.underlay();
    let plan = Etcd::plan().member(lab.node(Side::A), store.into());
    let etcd = plan.unwrap().launch().unwrap();
    etcd.put(CONFIG, UDP).unwrap();
    let (_, port) = etcd
        .url()
        .rsplit_once(':')
        .map(|(_, port)| ((), port.parse().unwrap()))
        .unwrap();
    serve_names(lab.node(Side::A), store);
    let files = [
        [("etc/hosts", format!("{store} {STORE}\n"))],
        [("etc/resolv.conf", format!("nameserver {store}\n"))],
    ];
    let started = Side::BOTH.map(|side| {
        let [(name, text)] = &files[side as usize];
        let place = lab.scratch().join(format!("root-{side:?}"));
        let root = root(
            place,
            &daemon,
            &[(name, text), ("etc/nsswitch.conf", SWITCH)],
        );
        let daemon = start(&lab, side, &root, port);
        (root, daemon)
    });
    let socket = started[Side::A as usize].0.join(SOCKET);
    let logs = || {
        started
            .each_ref()
            .map(|(_, daemon)| daemon.log())
            .join("\n")
    };
    let doctor = || -> Answer {
        let words = tool(&socket, "doctor");
        let mut command = lab
            .node(Side::A)
            .command(&words.get_program().to_string_lossy())
            .unwrap();
        command.args(words.get_args()).output().unwrap().into()
    };
    let reached = "192.168.77.2 is reached through the tunnel, also by packets of 1472 bytes";
    patiently(logs, doctor, |answer| answer.out.contains(reached));
    for (_, daemon) in &started {
        assert!(
            daemon.log().contains("iptables-save is not installed"),
            "{}",
            daemon.log()
        );
    }
}
