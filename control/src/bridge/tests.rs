//! Bridges between real stores. What must hold in the end is asserted, never how soon.

use super::{Bridge, Happening, Store};
use crate::lease::{Lease, LeaseAttrs};
use crate::registry::{EtcdApi, EtcdOptions, EtcdRegistry, FileRegistry, Record, Steward, Term};
use crate::subnet_key::SubnetKey;
use benches::etcd::{Api, Etcd};
use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG: &str = r#"{"Network":"10.5.0.0/16"}"#;
/// The name in the copies of the bridges under test.
const NAME: &str = "test";

/// Which two stores are joined.
#[derive(Clone, Copy)]
enum Pair {
    /// Two servers, the first of which is old.
    Versions,
    /// Two prefixes on one server.
    Prefixes(Api),
    /// A directory, and a server.
    Directory,
}

/// Makes a test of each function for every kind of pair.
macro_rules! for_every_pair {
    ($($name:ident),+ $(,)?) => {
        for_every_pair!(versions = Pair::Versions; $($name),+);
        for_every_pair!(prefixes_of_version_2 = Pair::Prefixes(Api::V2); $($name),+);
        for_every_pair!(prefixes_of_version_3 = Pair::Prefixes(Api::V3); $($name),+);
        for_every_pair!(directory_and_etcd = Pair::Directory; $($name),+);
    };
    ($kind:ident = $pair:expr; $($name:ident),+) => {
        mod $kind {
            #[allow(unused_imports, reason = "not every kind of pair has a version")]
            use super::{Api, Pair};
            $(#[test]
            fn $name() {
                super::$name($pair);
            })+
        }
    };
}

for_every_pair!(
    records_of_each_store_are_copied_to_the_other_and_copies_to_none,
    what_is_changed_renewed_or_removed_is_so_in_the_copy,
    a_record_that_ran_out_is_not_brought_back,
    copies_of_what_was_removed_meanwhile_are_removed_by_the_next_run,
    a_reservation_is_copied_as_a_lease,
    of_two_nodes_with_one_subnet_neither_loses_its_record,
    a_record_that_shares_addresses_with_another_is_not_copied,
    a_node_that_moves_to_the_other_store_keeps_its_subnet,
    stores_that_die_and_return_lose_nothing,
    a_store_that_was_emptied_removes_nothing_from_the_other,
    stores_of_different_networks_are_not_joined,
    draining_removes_the_copies_and_no_record,
);

/// Where one of the stores is, with the hands an operator has on it.
enum Place {
    Etcd {
        server: usize,
        api: Api,
        prefix: &'static str,
    },
    Directory(TempDir),
}

/// Two stores, called `old` and `new`. Fields end in this order.
struct Shores {
    stores: [Store; 2],
    places: [Place; 2],
    etcds: Vec<Etcd>,
}

fn shores(pair: Pair) -> Shores {
    let plans = match pair {
        Pair::Versions => vec![Etcd::plan().version_2(), Etcd::plan()],
        Pair::Prefixes(_) | Pair::Directory => vec![Etcd::plan().version_2()],
    };
    let plans = plans.into_iter();
    let etcds: Vec<_> = plans.map(|plan| plan.launch().unwrap()).collect();
    let place = |server, api, prefix| Place::Etcd {
        server,
        api,
        prefix,
    };
    let places = match pair {
        Pair::Versions => [place(0, Api::V2, "/net"), place(1, Api::V3, "/net")],
        Pair::Prefixes(api) => [place(0, api, "/one"), place(0, api, "/two")],
        Pair::Directory => [
            Place::Directory(tempfile::tempdir().unwrap()),
            place(0, Api::V3, "/net"),
        ],
    };
    let [old, new] = &places;
    let shores = Shores {
        stores: [old.store(&etcds, "old"), new.store(&etcds, "new")],
        places,
        etcds,
    };
    shores.configure(0, CONFIG);
    shores.configure(1, CONFIG);
    shores
}

impl Place {
    fn store(&self, etcds: &[Etcd], name: &str) -> Store {
        let registry: Arc<dyn Steward> = match self {
            Self::Etcd {
                server,
                api,
                prefix,
            } => Arc::new(registry(&etcds[*server], *api, prefix)),
            Self::Directory(dir) => Arc::new(FileRegistry::open(dir.path(), DAY).unwrap()),
        };
        Store {
            name: name.to_owned(),
            registry,
        }
    }
}

fn registry(etcd: &Etcd, api: Api, prefix: &str) -> EtcdRegistry {
    let options = EtcdOptions {
        api: match api {
            Api::V2 => EtcdApi::V2,
            Api::V3 => EtcdApi::V3,
        },
        endpoints: etcd.urls(),
        prefix: prefix.to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    };
    EtcdRegistry::open(options).unwrap()
}

impl Shores {
    fn configure(&self, number: usize, text: &str) {
        match &self.places[number] {
            Place::Directory(dir) => fs::write(dir.path().join("config"), text).unwrap(),
            Place::Etcd {
                server,
                api,
                prefix,
            } => {
                let (etcd, key) = (&self.etcds[*server], format!("{prefix}/config"));
                match api {
                    Api::V2 => etcd.v2().put(&key, text).unwrap(),
                    Api::V3 => etcd.put(&key, text).unwrap(),
                }
            }
        }
    }

    /// Takes everything away, the config first where it is not all at once.
    fn empty(&mut self, number: usize) {
        match &self.places[number] {
            Place::Directory(dir) => {
                fs::remove_file(dir.path().join("config")).unwrap();
                for record in fs::read_dir(dir.path().join("subnets")).unwrap() {
                    fs::remove_file(record.unwrap().path()).unwrap();
                }
            }
            Place::Etcd { server, .. } if self.etcds.len() > 1 => {
                self.etcds[*server].wipe().unwrap();
            }
            Place::Etcd {
                server,
                api,
                prefix,
            } => {
                let etcd = &self.etcds[*server];
                match api {
                    Api::V2 => etcd.v2().ctl(&["rm", "--recursive", prefix]).unwrap(),
                    Api::V3 => etcd.ctl(&["del", "--prefix", prefix]).unwrap(),
                };
            }
        }
    }

    /// The names of those that servers keep.
    fn served(&self) -> impl Iterator<Item = &str> {
        let all = self.places.iter().zip(&self.stores);
        let served = all.filter(|(place, _)| matches!(place, Place::Etcd { .. }));
        served.map(|(_, store)| &*store.name)
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

/// A record of the node that is called like its subnet.
fn write(registry: &dyn Steward, key: &str, term: Term) -> Lease {
    let record = Record {
        key: subnet(key),
        attrs: &attrs(key),
        term,
    };
    registry.write(record, None).unwrap()
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

fn records_of_each_store_are_copied_to_the_other_and_copies_to_none(pair: Pair) {
    let shores = shores(pair);
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
    let value = copy.attrs.to_json();
    assert!(value.ends_with(r#","Bridge":"test"}"#), "{value}");
}

fn what_is_changed_renewed_or_removed_is_so_in_the_copy(pair: Pair) {
    let shores = shores(pair);
    let _bridge = shores.start();
    for (number, far) in [(0, 1), (1, 0)] {
        let hour = Term::Leased(DAY / 24);
        let home = shores.registry(number);
        let record = write(home, "1", hour);
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

fn a_record_that_ran_out_is_not_brought_back(pair: Pair) {
    let shores = shores(pair);
    let short = Term::Leased(Duration::from_secs(6));
    let keys = ["1", "2"];
    for (number, key) in keys.into_iter().enumerate() {
        let home = shores.registry(number);
        write(home, key, short);
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

fn copies_of_what_was_removed_meanwhile_are_removed_by_the_next_run(pair: Pair) {
    let shores = shores(pair);
    let bridge = shores.start();
    let record = shores.create(0, "1", "1");
    shores.await_records(1, &["1=1*"]);
    drop(bridge);
    shores.registry(0).remove(&record).unwrap();
    let _bridge = shores.start();
    shores.await_records(1, &[]);
    shores.await_records(0, &[]);
}

fn a_reservation_is_copied_as_a_lease(pair: Pair) {
    let shores = shores(pair);
    let _bridge = shores.start();
    write(shores.registry(0), "1", Term::Reserved);
    shores.await_records(1, &["1=1*"]);
    assert!(!find(shores.registry(1), "1").reserved);
}

fn of_two_nodes_with_one_subnet_neither_loses_its_record(pair: Pair) {
    let shores = shores(pair);
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

fn a_record_that_shares_addresses_with_another_is_not_copied(pair: Pair) {
    let shores = shores(pair);
    let wide = "10.5.0.0-22".parse().unwrap();
    shores.registry(1).create(wide, &attrs("2")).unwrap();
    let bridge = shores.start();
    shores.create(0, "1", "1");
    bridge.await_line("conflict: 10.5.1.0-24 of 192.168.77.1 shares addresses with 10.5.0.0-22");
    shores.await_records(1, &["0=2"]);
}

fn a_node_that_moves_to_the_other_store_keeps_its_subnet(pair: Pair) {
    let shores = shores(pair);
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
    let (shores, more) = (shores(Pair::Versions), shores(Pair::Directory));
    let third = more.stores[0].clone();
    let _one = shores.start();
    let _other = start([shores.stores[1].clone(), third], "another");
    shores.create(0, "1", "1");
    shores.create(1, "2", "2");
    shores.await_records(0, &["1=1", "2=2*"]);
    shores.await_records(1, &["1=1*", "2=2"]);
    more.await_records(0, &["2=2*"]);
}

fn stores_that_die_and_return_lose_nothing(pair: Pair) {
    let mut shores = shores(pair);
    let bridge = shores.start();
    shores.create(0, "1", "1");
    shores.create(1, "2", "2");
    shores.await_records(0, &["1=1", "2=2*"]);
    shores.await_records(1, &["1=1*", "2=2"]);
    shores.etcds.iter_mut().for_each(Etcd::kill);
    for name in shores.served() {
        bridge.await_line(&format!("lost {name}"));
    }
    shores.etcds.iter_mut().for_each(|etcd| etcd.run().unwrap());
    for name in shores.served() {
        bridge.await_line(&format!("{name} is back"));
    }
    shores.create(0, "3", "3");
    shores.await_records(0, &["1=1", "2=2*", "3=3"]);
    shores.await_records(1, &["1=1*", "2=2", "3=3*"]);
}

fn a_store_that_was_emptied_removes_nothing_from_the_other(pair: Pair) {
    let mut shores = shores(pair);
    let bridge = shores.start();
    shores.create(0, "1", "1");
    shores.await_records(1, &["1=1*"]);
    shores.empty(0);
    bridge.await_line("waiting: old: no network config found");
    shores.await_records(1, &["1=1*"]);
    // The node writes its record again, and only then somebody a config.
    shores.create(0, "1", "1");
    shores.configure(0, CONFIG);
    shores.create(0, "3", "3");
    shores.await_records(1, &["1=1*", "3=3*"]);
    assert_eq!(bridge.lines("removed"), 0);
}

fn stores_of_different_networks_are_not_joined(pair: Pair) {
    let shores = shores(pair);
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

fn draining_removes_the_copies_and_no_record(pair: Pair) {
    let shores = shores(pair);
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
