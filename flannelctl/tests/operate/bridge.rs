//! `flannelctl bridge` as it is shipped: two nodes on stores of two kinds form one network, and a bridge that is killed
//! at any moment loses nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use benches::daemon::Daemon;
use benches::etcd::Etcd;
use benches::lab::Subnet;
use benches::scratch::Scratch;
use benches::{Lab, Profile, Side};
use control::lease::{Lease, LeaseAttrs};
use control::registry::{EtcdApi, EtcdOptions, EtcdRegistry, Registry};

use super::scene::flanneld;

const CONFIG: &str = "/coreos.com/network/config";
const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const PATIENCE: Duration = Duration::from_secs(60);

fn await_until(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

/// An etcd of both versions with the config in both.
fn both_versions(plan: benches::etcd::Plan) -> Etcd {
    let etcd = plan.version_2().launch().unwrap();
    etcd.put(CONFIG, VXLAN).unwrap();
    etcd.v2().put(CONFIG, VXLAN).unwrap();
    etcd
}

fn tell_bridge(command: &mut Command, etcd: &Etcd) {
    command.arg("bridge");
    command.arg(format!("--from=v2:{}", etcd.url()));
    command.arg(format!("--to=v3:{}", etcd.url()));
}

/// Two nodes, the first of which keeps its lease by version 2, the second by version 3.
struct Scene {
    daemons: Vec<Daemon>,
    etcd: Etcd,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new(Profile::Offload).unwrap();
        let plan = Etcd::plan().member(lab.node(Side::A), Side::A.underlay().into());
        let mut scene = Self {
            daemons: Vec::new(),
            etcd: both_versions(plan.unwrap()),
            lab,
        };
        for (side, api) in [(Side::A, "v2"), (Side::B, "v3")] {
            let flags = [
                format!("--etcd-api={api}"),
                format!("--etcd-endpoints={}", scene.etcd.url()),
                format!("--subnet-file={}", scene.subnet_file(side).display()),
                "--iface=eth0".to_owned(),
            ];
            scene.start(side, &flanneld().to_string_lossy(), |command| {
                command.args(flags);
            });
        }
        scene
    }

    fn start(&mut self, side: Side, program: &str, tell: impl FnOnce(&mut Command)) {
        let mut command = self.lab.node(side).command(program).unwrap();
        tell(&mut command);
        let log = self
            .lab
            .scratch()
            .join(format!("log{}", self.daemons.len()));
        self.daemons
            .push(Daemon::start(&mut command, &log).unwrap());
    }

    fn start_bridge(&mut self) {
        let mut tell = Command::new("unused");
        tell_bridge(&mut tell, &self.etcd);
        let words: Vec<_> = tell.get_args().map(ToOwned::to_owned).collect();
        self.start(Side::A, env!("CARGO_BIN_EXE_flannelctl"), |command| {
            command.args(words);
        });
    }

    fn subnet_file(&self, side: Side) -> std::path::PathBuf {
        self.lab.scratch().join(format!("subnet-{side:?}.env"))
    }

    /// The subnet and MTU a node's daemon has told.
    fn told(&self, side: Side) -> Option<(Subnet, u32)> {
        let text = std::fs::read_to_string(self.subnet_file(side)).ok()?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let subnet = value("FLANNEL_SUBNET=")?.parse().ok()?;
        Some((subnet, value("FLANNEL_MTU=")?.parse().ok()?))
    }

    fn logs(&self) -> String {
        self.daemons.iter().map(Daemon::log).collect()
    }
}

/// A megabyte from one container to another and back, over TCP.
fn exchange(scene: &Scene, from: Side, to: Side, address: std::net::Ipv4Addr) {
    let bind = || TcpListener::bind((address, 0));
    let listener = scene.lab.container(to).enter(bind).unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let connect = || TcpStream::connect((address, port));
    let mut stream = scene.lab.container(from).enter(connect).unwrap();
    let sent: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let mut back = Vec::new();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut back).unwrap();
    echo.join().unwrap();
    assert!(
        sent == back,
        "{} bytes of {} came back",
        back.len(),
        sent.len()
    );
}

#[test]
fn a_node_on_version_2_and_one_on_version_3_form_one_network_across_a_bridge() {
    let mut scene = Scene::new();
    let ready = |scene: &Scene| Side::BOTH.iter().all(|side| scene.told(*side).is_some());
    await_until(|| ready(&scene), || scene.logs());
    let subnets = Side::BOTH.map(|side| {
        let (subnet, mtu) = scene.told(side).unwrap();
        scene.lab.address(side, subnet, mtu).unwrap();
        subnet
    });
    let [near, far] = subnets.map(|subnet| subnet.container());
    let ping = |scene: &Scene, side: Side, to| {
        let words = format!("ping -c 5 -i 0.01 -W 1 {to}");
        scene.lab.container(side).run(&words).is_ok()
    };
    assert!(!ping(&scene, Side::A, far), "two networks without a bridge");
    scene.start_bridge();
    await_until(|| ping(&scene, Side::A, far), || scene.logs());
    assert!(ping(&scene, Side::B, near), "{}", scene.logs());
    exchange(&scene, Side::A, Side::B, far);
    exchange(&scene, Side::B, Side::A, near);
    // The bridge ends, the network stays.
    let bridge = scene.daemons.last_mut().unwrap();
    assert_eq!(bridge.stop().unwrap().code(), Some(0), "{}", bridge.log());
    assert!(
        bridge.log().contains("ending: 1 copies"),
        "{}",
        bridge.log()
    );
    assert!(ping(&scene, Side::A, far) && ping(&scene, Side::B, near));
    for side in [0, 1] {
        scene.daemons[side].still_running().unwrap();
    }
}

/// A store and what its nodes have in it.
struct Shore {
    registry: EtcdRegistry,
    records: BTreeMap<String, Lease>,
}

impl Shore {
    fn new(etcd: &Etcd, api: EtcdApi) -> Self {
        let options = EtcdOptions {
            api,
            endpoints: etcd.urls(),
            prefix: "/coreos.com/network".to_owned(),
            lease_time: Duration::from_secs(86_400),
            ..EtcdOptions::default()
        };
        Self {
            registry: EtcdRegistry::open(options).unwrap(),
            records: BTreeMap::new(),
        }
    }

    /// A node of one of these subnets comes, goes or moves.
    fn change(&mut self, third: u64, node: u64) {
        let key = format!("10.5.{third}.0-24");
        let attrs = LeaseAttrs::parse(&format!(r#"{{"PublicIP":"192.168.77.{node}"}}"#)).unwrap();
        match self.records.remove(&key) {
            None => {
                let created = self.registry.create(key.parse().unwrap(), &attrs).unwrap();
                self.records.insert(key, created);
            }
            Some(lease) if node.is_multiple_of(3) => self.registry.remove(&lease).unwrap(),
            Some(lease) => {
                let renewed = self.registry.renew(&lease, &attrs).unwrap();
                self.records.insert(key, renewed);
            }
        }
    }

    /// Records and copies in the store, by subnet: the node, and whether it is a copy.
    fn found(&self) -> BTreeMap<String, (Option<std::net::Ipv4Addr>, bool)> {
        let all = self.registry.snapshot().unwrap().leases;
        let entry = |lease: Lease| {
            let copy = lease.attrs.bridge.is_some();
            (lease.key.to_string(), (lease.attrs.public_ip, copy))
        };
        all.into_iter().map(entry).collect()
    }
}

#[test]
fn a_bridge_killed_at_any_moment_loses_nothing_and_brings_nothing_back() {
    const KILLS: u64 = 25;
    let (etcd, scratch) = (both_versions(Etcd::plan()), Scratch::new().unwrap());
    let mut shores = [EtcdApi::V2, EtcdApi::V3].map(|api| Shore::new(&etcd, api));
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flannelctl"));
        tell_bridge(&mut command, &etcd);
        Daemon::start(&mut command, &scratch.path().join("log")).unwrap()
    };
    for kill in 0..KILLS {
        let mut bridge = start();
        for change in 0..8_u64 {
            let dice = (kill * 8 + change).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let side = dice % 2;
            // Subnets of one side are none of the other's.
            shores[side as usize].change(1 + 2 * (dice / 2 % 10) + side, 1 + dice / 20 % 200);
            thread::sleep(Duration::from_millis(dice / 4000 % 60));
        }
        bridge.stop_with(9).unwrap();
    }
    let _bridge = start();
    let expected = |own: &Shore, other: &Shore| {
        let entries = |shore: &Shore, copy: bool| {
            let node =
                |(key, lease): (&String, &Lease)| (key.clone(), (lease.attrs.public_ip, copy));
            shore.records.iter().map(node).collect::<Vec<_>>()
        };
        let all = entries(own, false).into_iter().chain(entries(other, true));
        all.collect::<BTreeMap<_, _>>()
    };
    let [one, other] = &shores;
    for (own, far) in [(one, other), (other, one)] {
        await_until(
            || own.found() == expected(own, far),
            || format!("{:#?}\n{:#?}", own.found(), expected(own, far)),
        );
        assert!(!own.found().is_empty());
    }
}
