//! Bridges between real stores. What must hold in the end is asserted, never how soon.

use super::{Bridge, Happening, Store};
use crate::lease::{Lease, LeaseAttrs};
use crate::registry::{EtcdApi, EtcdOptions, EtcdRegistry, FileRegistry, Steward, Term};
use crate::subnet_key::SubnetKey;
use benches::etcd::Etcd;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG: &str = r#"{"Network":"10.5.0.0/16"}"#;
/// The name in the copies of the bridges under test.
const NAME: &str = "test";

/// Two stores on servers of their own, the first of which is old.
struct Shores {
    etcds: [Etcd; 2],
    stores: [Store; 2],
}

fn shores() -> Shores {
    let etcds = [Etcd::plan().version_2(), Etcd::plan()].map(|plan| plan.launch().unwrap());
    let shores = Shores {
        stores: [
            store(&etcds[0], EtcdApi::V2, "old"),
            store(&etcds[1], EtcdApi::V3, "new"),
        ],
        etcds,
    };
    shores.configure(0, CONFIG);
    shores.configure(1, CONFIG);
    shores
}

fn store(etcd: &Etcd, api: EtcdApi, name: &str) -> Store {
    let options = EtcdOptions {
        api,
        endpoints: etcd.urls(),
        prefix: "/net".to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    };
    Store {
        name: name.to_owned(),
        registry: Arc::new(EtcdRegistry::open(options).unwrap()),
    }
}

fn directory(path: &Path) -> Store {
    std::fs::write(path.join("config"), CONFIG).unwrap();
    Store {
        name: "directory".to_owned(),
        registry: Arc::new(FileRegistry::open(path, DAY).unwrap()),
    }
}

impl Shores {
    fn configure(&self, number: usize, text: &str) {
        match number {
            0 => self.etcds[0].v2().put("/net/config", text).unwrap(),
            _ => self.etcds[1].put("/net/config", text).unwrap(),
        }
    }

    fn start(&self) -> Running {
        start(self.stores.clone(), NAME)
    }

    fn registry(&self, number: usize) -> &dyn Steward {
        &*self.stores[number].registry
    }

    fn create(&self, number: usize, key: &str, node: &str) -> Lease {
        let created = self.registry(number).create(subnet(key), &attrs(node));
        created.unwrap()
    }

    /// Waits until both stores hold just these, written `subnet=node`, copies with a star behind.
    fn await_records(&self, number: usize, expected: &[&str]) {
        await_until(
            || records(self.registry(number)).is_some_and(|found| found == expected),
            || {
                format!(
                    "{number}: {:?} and not {expected:?}",
                    records(self.registry(number))
                )
            },
        );
    }
}

/// A bridge on a thread.
struct Running {
    happenings: Sender<Happening>,
    told: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

fn start(stores: [Store; 2], name: &'static str) -> Running {
    let (happenings, inbox) = channel();
    let told = Arc::new(Mutex::new(Vec::new()));
    let (sender, lines) = (happenings.clone(), Arc::clone(&told));
    let run = move || {
        let tell = |line: &str| lines.lock().unwrap().push(line.to_owned());
        Bridge::new(name, stores, tell)
            .run(&sender, &inbox)
            .unwrap();
    };
    Running {
        happenings,
        told,
        thread: Some(thread::spawn(run)),
    }
}

impl Running {
    fn lines(&self, text: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|line| line.contains(text)).count()
    }

    fn await_line(&self, text: &str) {
        await_until(
            || self.lines(text) > 0,
            || format!("no {text:?} in {:#?}", self.told.lock().unwrap()),
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.happenings.send(Happening::Stop).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn await_until(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

fn subnet(key: &str) -> SubnetKey {
    format!("10.5.{key}.0-24").parse().unwrap()
}

fn attrs(node: &str) -> LeaseAttrs {
    let text = format!(
        r#"{{"PublicIP":"192.168.77.{node}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:00:0{node}"}}}}"#
    );
    LeaseAttrs::parse(&text).unwrap()
}

/// What a store holds, in short; nothing while it does not answer.
fn records(registry: &dyn Steward) -> Option<Vec<String>> {
    let mut found: Vec<String> = registry
        .snapshot()
        .ok()?
        .leases
        .iter()
        .map(|lease| {
            let third = lease.key.ipv4().unwrap().addr().octets()[2];
            let node = lease.attrs.public_ip.unwrap().octets()[3];
            let star = if lease.attrs.bridge.is_some() {
                "*"
            } else {
                ""
            };
            format!("{third}={node}{star}")
        })
        .collect();
    found.sort();
    Some(found)
}

fn find(registry: &dyn Steward, key: &str) -> Lease {
    let all = registry.snapshot().unwrap().leases;
    all.into_iter().find(|one| one.key == subnet(key)).unwrap()
}

#[test]
fn records_of_each_store_are_copied_to_the_other_and_copies_to_none() {
    let shores = shores();
    shores.create(0, "1", "1");
    let _bridge = shores.start();
    shores.create(1, "2", "2");
    for number in [0, 1] {
        let expected = [["1=1", "2=2*"], ["1=1*", "2=2"]];
        shores.await_records(number, &expected[number]);
    }
    let (record, copy) = (find(shores.registry(0), "1"), find(shores.registry(1), "1"));
    let unmarked = LeaseAttrs {
        bridge: None,
        ..copy.attrs.clone()
    };
    assert_eq!(unmarked, record.attrs);
    let left = |number: usize, lease| shores.registry(number).left(lease).unwrap().unwrap();
    assert!(left(1, &copy) <= left(0, &record) + Duration::from_secs(3));
    // What stock reads of it, in any version: its own fields, and one it passes over.
    let value = shores.etcds[1].get("/net/subnets/10.5.1.0-24").unwrap();
    assert!(value.ends_with(r#","Bridge":"test"}"#), "{value}");
}

#[test]
fn what_is_changed_renewed_or_removed_is_so_in_the_copy() {
    let shores = shores();
    let _bridge = shores.start();
    for (number, far) in [(0, 1), (1, 0)] {
        let hour = Term::Leased(DAY / 24);
        let home = shores.registry(number);
        let record = home.write(subnet("1"), &attrs("1"), None, hour).unwrap();
        shores.await_records(far, &["1=1*"]);
        let renewed = home.renew(&record, &record.attrs).unwrap();
        let long = || {
            let copy = find(shores.registry(far), "1");
            shores.registry(far).left(&copy).unwrap() > Some(DAY / 2)
        };
        await_until(long, || "the copy was not renewed".to_owned());
        let moved = home.renew(&renewed, &attrs("3")).unwrap();
        shores.await_records(far, &["1=3*"]);
        home.remove(&moved).unwrap();
        shores.await_records(far, &[]);
    }
}

#[test]
fn a_record_that_ran_out_is_not_brought_back() {
    let shores = shores();
    let short = Term::Leased(Duration::from_secs(6));
    let keys = ["1", "2"];
    for (number, key) in keys.into_iter().enumerate() {
        let home = shores.registry(number);
        home.write(subnet(key), &attrs(key), None, short).unwrap();
    }
    let bridge = shores.start();
    shores.await_records(0, &["1=1", "2=2*"]);
    shores.await_records(1, &["1=1*", "2=2"]);
    // Nobody is there to remove the copies: they end by themselves.
    drop(bridge);
    shores.await_records(0, &[]);
    shores.await_records(1, &[]);
    let _bridge = shores.start();
    shores.create(0, "3", "3");
    shores.await_records(1, &["3=3*"]);
    shores.await_records(0, &["3=3"]);
}

#[test]
fn copies_of_what_was_removed_meanwhile_are_removed_by_the_next_run() {
    let shores = shores();
    let bridge = shores.start();
    let record = shores.create(0, "1", "1");
    shores.await_records(1, &["1=1*"]);
    drop(bridge);
    shores.registry(0).remove(&record).unwrap();
    let _bridge = shores.start();
    shores.await_records(1, &[]);
    shores.await_records(0, &[]);
}

#[test]
fn a_reservation_is_copied_as_a_lease() {
    let shores = shores();
    let _bridge = shores.start();
    let home = shores.registry(0);
    home.write(subnet("1"), &attrs("1"), None, Term::Reserved)
        .unwrap();
    shores.await_records(1, &["1=1*"]);
    assert!(!find(shores.registry(1), "1").reserved);
}

#[test]
fn of_two_nodes_with_one_subnet_neither_loses_its_record() {
    let shores = shores();
    let record = shores.create(0, "1", "1");
    shores.create(1, "1", "2");
    let bridge = shores.start();
    bridge.await_line("conflict: 10.5.1.0-24 belongs to 192.168.77.1 in old");
    shores.create(0, "4", "4");
    shores.await_records(1, &["1=2", "4=4*"]);
    shores.await_records(0, &["1=1", "4=4"]);
    assert_eq!(bridge.lines("conflict"), 1);
    shores.registry(0).remove(&record).unwrap();
    shores.await_records(0, &["1=2*", "4=4"]);
}

#[test]
fn a_record_that_shares_addresses_with_another_is_not_copied() {
    let shores = shores();
    let wide = "10.5.0.0-22".parse().unwrap();
    shores.registry(1).create(wide, &attrs("2")).unwrap();
    let bridge = shores.start();
    shores.create(0, "1", "1");
    bridge.await_line("conflict: 10.5.1.0-24 of 192.168.77.1 shares addresses with 10.5.0.0-22");
    shores.await_records(1, &["0=2"]);
}

#[test]
fn a_node_that_moves_to_the_other_store_keeps_its_subnet() {
    let shores = shores();
    let bridge = shores.start();
    let old = shores.create(0, "1", "1");
    shores.await_records(1, &["1=1*"]);
    // What a node does that finds a record of its own: stock and ours alike.
    let copy = find(shores.registry(1), "1");
    shores.registry(1).renew(&copy, &attrs("1")).unwrap();
    shores.create(0, "4", "4");
    shores.await_records(1, &["1=1", "4=4*"]);
    shores.await_records(0, &["1=1", "4=4"]);
    shores.registry(0).remove(&old).unwrap();
    shores.await_records(0, &["1=1*", "4=4"]);
    assert_eq!(bridge.lines("conflict"), 0);
}

#[test]
fn copies_of_another_bridge_are_left_alone_and_not_copied_on() {
    let shores = shores();
    let dir = tempfile::tempdir().unwrap();
    let third = directory(dir.path());
    let _one = shores.start();
    let _other = start([shores.stores[1].clone(), third.clone()], "another");
    shores.create(0, "1", "1");
    shores.create(1, "2", "2");
    shores.await_records(0, &["1=1", "2=2*"]);
    shores.await_records(1, &["1=1*", "2=2"]);
    await_until(
        || records(&*third.registry).is_some_and(|found| found == ["2=2*"]),
        || format!("{:?}", records(&*third.registry)),
    );
}

#[test]
fn a_directory_is_joined_with_etcd() {
    let shores = shores();
    let dir = tempfile::tempdir().unwrap();
    let files = directory(dir.path());
    let _bridge = start([files.clone(), shores.stores[1].clone()], NAME);
    let record = files.registry.create(subnet("1"), &attrs("1")).unwrap();
    shores.create(1, "2", "2");
    shores.await_records(1, &["1=1*", "2=2"]);
    let found = |expected: &[&str]| {
        await_until(
            || records(&*files.registry).is_some_and(|found| found == expected),
            || format!("{:?}", records(&*files.registry)),
        );
    };
    found(&["1=1", "2=2*"]);
    files.registry.remove(&record).unwrap();
    shores.await_records(1, &["2=2"]);
}

#[test]
fn stores_that_die_and_return_lose_nothing() {
    let mut shores = shores();
    let bridge = shores.start();
    shores.create(0, "1", "1");
    shores.create(1, "2", "2");
    shores.await_records(0, &["1=1", "2=2*"]);
    shores.await_records(1, &["1=1*", "2=2"]);
    shores.etcds.iter_mut().for_each(Etcd::kill);
    for name in ["lost old", "lost new"] {
        bridge.await_line(name);
    }
    for number in [1, 0] {
        shores.etcds[number].run().unwrap();
    }
    for name in ["old is back", "new is back"] {
        bridge.await_line(name);
    }
    shores.create(0, "3", "3");
    shores.await_records(0, &["1=1", "2=2*", "3=3"]);
    shores.await_records(1, &["1=1*", "2=2", "3=3*"]);
}

#[test]
fn a_store_that_was_emptied_removes_nothing_from_the_other() {
    let mut shores = shores();
    let bridge = shores.start();
    shores.create(0, "1", "1");
    shores.await_records(1, &["1=1*"]);
    shores.etcds[0].wipe().unwrap();
    bridge.await_line("waiting: old: no network config found");
    shores.await_records(1, &["1=1*"]);
    // The node writes its record again, and only then somebody a config.
    shores.create(0, "1", "1");
    shores.configure(0, CONFIG);
    shores.create(0, "3", "3");
    shores.await_records(1, &["1=1*", "3=3*"]);
    assert_eq!(bridge.lines("removed"), 0);
}

#[test]
fn stores_of_different_networks_are_not_joined() {
    let shores = shores();
    shores.configure(1, r#"{"Network":"10.6.0.0/16"}"#);
    let bridge = shores.start();
    shores.create(0, "1", "1");
    bridge.await_line("waiting: the network configs of old and new differ");
    shores.await_records(1, &[]);
    // Ranges may differ, and names be written in another way.
    let apart = r#"{"network":"10.5.0.0/16","SubnetMin":"10.5.128.0"}"#;
    shores.configure(1, apart);
    shores.await_records(1, &["1=1*"]);
    assert_eq!(bridge.lines("waiting"), 1);
}

#[test]
fn draining_removes_the_copies_and_no_record() {
    let shores = shores();
    let bridge = shores.start();
    shores.create(0, "1", "1");
    shores.create(1, "2", "2");
    shores.await_records(0, &["1=1", "2=2*"]);
    shores.await_records(1, &["1=1*", "2=2"]);
    drop(bridge);
    let mut told = Vec::new();
    let tell = |line: &str| told.push(line.to_owned());
    Bridge::new(NAME, shores.stores.clone(), tell)
        .drain()
        .unwrap();
    assert_eq!(
        told,
        ["removed 1 copies from old", "removed 1 copies from new"]
    );
    shores.await_records(0, &["1=1"]);
    shores.await_records(1, &["2=2"]);
}
