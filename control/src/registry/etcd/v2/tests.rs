//! Version 2 against a real etcd: the contract, what goes wrong with servers, and what is its own.

use super::EtcdV2;
use crate::registry::contract::{Fixture, contract};
use crate::registry::etcd::faults::{Dialect, await_news, faults, is_snapshot, key, node, watch};
use crate::registry::etcd::{EtcdApi, EtcdOptions, EtcdRegistry, Found};
use crate::registry::{News, Registry, RegistryError};
use benches::etcd::{Etcd, Plan};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86400);
/// More changes than a server remembers.
const MANY: usize = 1100;

static SHARED: LazyLock<Etcd> = LazyLock::new(server);

fn server() -> Etcd {
    Version2.plan().launch().unwrap()
}

/// A prefix of its own on the shared server.
struct Prefix(String);

fn prefix() -> Prefix {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    Prefix(format!(
        "/test{}/network",
        COUNT.fetch_add(1, Ordering::Relaxed)
    ))
}

fn open(etcd: &Etcd, prefix: &str) -> EtcdV2 {
    EtcdV2::open(EtcdOptions {
        endpoints: etcd.urls(),
        prefix: prefix.to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    })
    .unwrap()
}

impl Prefix {
    fn record(&self, name: &str) -> String {
        format!("{}/subnets/{name}", self.0)
    }
}

impl Fixture for Prefix {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(open(&SHARED, &self.0))
    }

    fn set_config(&self, text: &str) {
        SHARED
            .v2()
            .put(&format!("{}/config", self.0), text)
            .unwrap();
    }

    fn reserve(&self, name: &str, value: &str) {
        SHARED.v2().put(&self.record(name), value).unwrap();
    }

    fn value(&self, name: &str) -> String {
        SHARED.v2().get(&self.record(name)).unwrap()
    }

    fn delete(&self, name: &str) {
        SHARED.v2().delete(&self.record(name)).unwrap();
    }

    fn expire(&self, name: &str) {
        let value = self.value(name);
        SHARED.v2().put_for(1, &self.record(name), &value).unwrap();
        while !self.value(name).is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

contract!(prefix);

struct Version2;

impl Dialect for Version2 {
    fn api(&self) -> EtcdApi {
        EtcdApi::V2
    }

    fn plan(&self) -> Plan {
        Etcd::plan().version_2()
    }

    fn put(&self, etcd: &Etcd, key: &str, value: &str) {
        etcd.v2().put(key, value).unwrap();
    }

    fn forget(&self, etcd: &Etcd) {
        etcd.v2().churn(MANY).unwrap();
    }

    fn guard(&self, etcd: &Etcd) {
        etcd.v2().ctl(&["user", "add", "root:secret"]).unwrap();
        etcd.v2().ctl(&["auth", "enable"]).unwrap();
        let root = "--username=root:secret";
        let words = [root, "role", "revoke", "guest", "--path=/*", "--readwrite"];
        etcd.v2().ctl(&words).unwrap();
    }

    fn refusal(&self) -> &'static str {
        "Insufficient credentials"
    }
}

faults!(Version2);

#[test]
fn a_wait_that_outlasts_what_the_server_remembers_begins_anew_in_silence() {
    // Stock waits for an index that is gone, and is told so each second.
    let etcd = server();
    let registry = open(&etcd, "/net");
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    etcd.v2().churn(MANY).unwrap();
    // The answer to the next change is known while the question after it is not asked yet.
    let lease = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    await_news(&news, |report| *report == News::Put(lease.clone()));
    etcd.freeze().unwrap();
    etcd.thaw().unwrap();
    let next = registry.renew(&lease, &node("1.2.3.5")).unwrap();
    let told = await_news(&news, |report| !matches!(report, News::Snapshot(_)));
    assert_eq!(told, News::Put(next));
}

#[test]
fn a_directory_that_is_removed_takes_its_records_along() {
    let etcd = server();
    let registry = open(&etcd, "/net");
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    for directory in ["/net/subnets", "/net"] {
        let (_watch, news) = watch(&registry);
        await_news(&news, is_snapshot);
        etcd.v2().ctl(&["rm", "--recursive", directory]).unwrap();
        let News::Snapshot(all) = await_news(&news, is_snapshot) else {
            unreachable!()
        };
        assert!(all.leases.is_empty());
        registry
            .create(key("10.5.1.0-24"), &node("1.2.3.4"))
            .unwrap();
        await_news(&news, |report| matches!(report, News::Put(_)));
    }
}

#[test]
fn a_directory_among_the_records_is_a_bad_record() {
    let prefix = prefix();
    let inside = prefix.record("10.5.1.0-24/inside");
    SHARED.v2().put(&inside, "x").unwrap();
    let found = prefix.registry().snapshot().unwrap();
    assert_eq!((found.leases.len(), found.bad.len()), (0, 1), "{found:?}");
}

#[test]
fn a_server_without_version_2_is_named_with_the_cure() {
    let etcd = Etcd::start().unwrap();
    let refused = open(&etcd, "/net").config().unwrap_err();
    assert!(
        matches!(&refused, RegistryError::Unavailable(why) if why.contains("--enable-v2=true")),
        "{refused}"
    );
}

#[test]
fn a_watch_that_begins_while_etcd_is_away_finds_out_later_what_to_speak() {
    let mut etcd = Version2.plan().prepare().unwrap();
    let registry = EtcdRegistry::open(EtcdOptions {
        api: EtcdApi::Auto(Found::default()),
        endpoints: etcd.urls(),
        prefix: "/net".to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    })
    .unwrap();
    let (_watch, news) = watch(&registry);
    await_news(&news, |report| matches!(report, News::Lost(_)));
    etcd.run().unwrap();
    assert!(matches!(registry.config(), Err(RegistryError::NoConfig(_))));
    etcd.v2().put("/net/config", "old").unwrap();
    await_news(&news, |report| *report == News::Regained);
    await_news(&news, is_snapshot);
    await_news(&news, |report| *report == News::Config("old".to_owned()));
    // What was found is not looked for again.
    etcd.put("/net/config", "new").unwrap();
    assert_eq!(registry.config().unwrap(), "old");
}

/// Lets in who is called flannel, with the rights that flannel's guides give, and nobody without a name.
fn guard_as_told(etcd: &Etcd) {
    let v2 = etcd.v2();
    for words in [
        "user add root:secret",
        "user add flannel:word",
        "role add flannel",
        "role grant flannel --path=/coreos.com/network/* --readwrite",
        "user grant flannel --roles=flannel",
        "auth enable",
        "--username=root:secret role revoke guest --path=/* --readwrite",
    ] {
        let words: Vec<_> = words.split(' ').collect();
        v2.ctl(&words).unwrap();
    }
}

#[test]
fn a_right_to_what_is_below_the_prefix_is_enough() {
    // It is what flannel 0.11 asks for, and not the right to the directory itself.
    let etcd = server();
    guard_as_told(&etcd);
    let registry = EtcdRegistry::open(EtcdOptions {
        api: EtcdApi::Auto(Found::default()),
        endpoints: etcd.urls(),
        prefix: "/coreos.com/network".to_owned(),
        user: Some(("flannel".to_owned(), "word".to_owned())),
        lease_time: DAY,
        ..EtcdOptions::default()
    })
    .unwrap();
    let configure = |text: &str| {
        let words = ["set", "--", "/coreos.com/network/config", text];
        let words: Vec<_> = ["--username=root:secret"]
            .into_iter()
            .chain(words)
            .collect();
        etcd.v2().ctl(&words).unwrap();
    };
    configure("one");
    assert_eq!(registry.config().unwrap(), "one");
    let (_watch, news) = watch(&registry);
    await_news(&news, |report| *report == News::Config("one".to_owned()));
    let lease = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    await_news(&news, |report| *report == News::Put(lease.clone()));
    configure("two");
    await_news(&news, |report| *report == News::Config("two".to_owned()));
    let lease = registry.renew(&lease, &lease.attrs).unwrap();
    assert_eq!(
        registry.snapshot().unwrap().leases,
        std::slice::from_ref(&lease)
    );
    registry.remove(&lease).unwrap();
    await_news(&news, |report| *report == News::Gone(lease.key));
}
