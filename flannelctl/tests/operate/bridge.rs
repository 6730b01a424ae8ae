//! `flannelctl bridge` as it is shipped: two nodes on stores of two kinds form one network, and a bridge that is killed
//! at any moment loses nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use benches::daemon::Daemon;
use benches::etcd::{Api, Etcd, Plan};
use benches::lab::Subnet;
use benches::scratch::Scratch;
use benches::{Lab, Profile, Side};
use control::lease::{Lease, LeaseAttrs};
use control::registry::{EtcdApi, EtcdOptions, EtcdRegistry, FileRegistry, Steward};

use super::scene::flanneld;

const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn await_until(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Where one of two stores is.
enum Place {
    Etcd(Api, &'static str),
    Directory(PathBuf),
}

/// Two stores, each with a config whose range is its own. Fields end in this order.
struct Stores {
    places: [Place; 2],
    etcd: Etcd,
    scratch: Scratch,
}

/// Which two they are.
#[derive(Clone, Copy)]
enum Pair {
    Versions,
    Prefixes(Api),
    DirectoryAndEtcd,
}

impl Stores {
    fn new(pair: Pair, plan: Plan) -> Self {
        let scratch = Scratch::new().unwrap();
        let usual = "/coreos.com/network";
        let stores = Self {
            places: match pair {
                Pair::Versions => [Place::Etcd(Api::V2, usual), Place::Etcd(Api::V3, usual)],
                Pair::Prefixes(api) => ["/one", "/two"].map(|prefix| Place::Etcd(api, prefix)),
                Pair::DirectoryAndEtcd => [
                    Place::Directory(scratch.path().to_owned()),
                    Place::Etcd(Api::V3, usual),
                ],
            },
            etcd: plan.version_2().launch().unwrap(),
            scratch,
        };
        stores.configure(0, "10.5.1.0", "10.5.60.0");
        stores.configure(1, "10.5.61.0", "10.5.120.0");
        stores
    }

    fn configure(&self, number: usize, min: &str, max: &str) {
        let text = format!(
            r#"{{"Network":"10.5.0.0/16","SubnetMin":"{min}","SubnetMax":"{max}","Backend":{{"Type":"vxlan"}}}}"#
        );
        match &self.places[number] {
            Place::Etcd(Api::V2, prefix) => {
                let key = format!("{prefix}/config");
                self.etcd.v2().put(&key, &text).unwrap();
            }
            Place::Etcd(Api::V3, prefix) => {
                self.etcd.put(&format!("{prefix}/config"), &text).unwrap();
            }
            Place::Directory(dir) => std::fs::write(dir.join("config"), text).unwrap(),
        }
    }

    /// How a store is named to a bridge.
    fn name(&self, number: usize) -> String {
        match &self.places[number] {
            Place::Etcd(Api::V2, prefix) => format!("v2:{}{prefix}", self.etcd.url()),
            Place::Etcd(Api::V3, prefix) => format!("v3:{}{prefix}", self.etcd.url()),
            Place::Directory(dir) => format!("file:{}", dir.display()),
        }
    }

    fn bridge(&self) -> [String; 3] {
        let [from, to] = [0, 1].map(|number| self.name(number));
        [
            "bridge".to_owned(),
            format!("--from={from}"),
            format!("--to={to}"),
        ]
    }

    /// How a store is named to a daemon.
    fn flags(&self, number: usize) -> Vec<String> {
        match &self.places[number] {
            Place::Etcd(api, prefix) => vec![
                format!("--etcd-api={}", if *api == Api::V2 { "v2" } else { "v3" }),
                format!("--etcd-prefix={prefix}"),
                format!("--etcd-endpoints={}", self.etcd.url()),
            ],
            Place::Directory(dir) => vec![format!("--store=file:{}", dir.display())],
        }
    }

    fn registry(&self, number: usize) -> Box<dyn Steward> {
        match &self.places[number] {
            Place::Directory(dir) => Box::new(FileRegistry::open(dir, DAY).unwrap()),
            Place::Etcd(api, prefix) => {
                let options = EtcdOptions {
                    api: match api {
                        Api::V2 => EtcdApi::V2,
                        Api::V3 => EtcdApi::V3,
                    },
                    endpoints: self.etcd.urls(),
                    prefix: (*prefix).to_owned(),
                    lease_time: DAY,
                    ..EtcdOptions::default()
                };
                Box::new(EtcdRegistry::open(options).unwrap())
            }
        }
    }
}

/// Two nodes, each with a store of its own.
struct Scene {
    daemons: Vec<Daemon>,
    stores: Stores,
    lab: Lab,
}

impl Scene {
    fn new(pair: Pair) -> Self {
        let lab = Lab::new(Profile::Offload).unwrap();
        let plan = Etcd::plan().member(lab.node(Side::A), Side::A.underlay().into());
        let mut scene = Self {
            daemons: Vec::new(),
            stores: Stores::new(pair, plan.unwrap()),
            lab,
        };
        for side in Side::BOTH {
            let mut flags = scene.stores.flags(side as usize);
            flags.push(format!(
                "--subnet-file={}",
                scene.subnet_file(side).display()
            ));
            flags.push("--iface=eth0".to_owned());
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
        let words = self.stores.bridge();
        self.start(Side::A, env!("CARGO_BIN_EXE_flannelctl"), |command| {
            command.args(words);
        });
    }

    fn subnet_file(&self, side: Side) -> PathBuf {
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
    two_nodes_form_one_network(Pair::Versions);
}

#[test]
fn nodes_on_two_prefixes_form_one_network_across_a_bridge() {
    two_nodes_form_one_network(Pair::Prefixes(Api::V3));
}

#[test]
fn a_node_on_a_directory_and_one_on_etcd_form_one_network_across_a_bridge() {
    two_nodes_form_one_network(Pair::DirectoryAndEtcd);
}

fn two_nodes_form_one_network(pair: Pair) {
    let mut scene = Scene::new(pair);
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
    registry: Box<dyn Steward>,
    records: BTreeMap<String, Lease>,
}

impl Shore {
    fn new(registry: Box<dyn Steward>) -> Self {
        let records = BTreeMap::new();
        Self { registry, records }
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
    kill_again_and_again(Pair::Versions, 25);
}

#[test]
fn a_bridge_between_prefixes_killed_at_any_moment_loses_nothing() {
    for api in [Api::V2, Api::V3] {
        kill_again_and_again(Pair::Prefixes(api), 8);
    }
}

#[test]
fn a_bridge_to_a_directory_killed_at_any_moment_loses_nothing() {
    kill_again_and_again(Pair::DirectoryAndEtcd, 8);
}

fn kill_again_and_again(pair: Pair, kills: u64) {
    let stores = Stores::new(pair, Etcd::plan());
    let mut shores = [0, 1].map(|number| Shore::new(stores.registry(number)));
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flannelctl"));
        command.args(stores.bridge());
        Daemon::start(&mut command, &stores.scratch.path().join("log")).unwrap()
    };
    for kill in 0..kills {
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
