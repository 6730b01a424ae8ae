//! The registry against a real etcd: the contract, and what goes wrong with servers.

use super::{EtcdOptions, EtcdRegistry, clean};
use crate::lease::LeaseAttrs;
use crate::registry::contract::{Fixture, contract};
use crate::registry::{News, Registry, RegistryError, Watch};
use crate::subnet_key::SubnetKey;
use benches::etcd::Etcd;
use etcd_client::{Txn, TxnOp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86400);
const PATIENCE: Duration = Duration::from_secs(60);

static SHARED: LazyLock<Etcd> = LazyLock::new(server);

fn server() -> Etcd {
    Etcd::start().unwrap()
}

/// The URL of a server that does not run.
fn dead_url() -> String {
    Etcd::plan().prepare().unwrap().url()
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

fn options(endpoints: &[String], prefix: &str) -> EtcdOptions {
    EtcdOptions {
        endpoints: endpoints.to_vec(),
        prefix: prefix.to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    }
}

fn open(endpoints: &[String]) -> EtcdRegistry {
    EtcdRegistry::open(options(endpoints, "/net")).unwrap()
}

impl Prefix {
    fn record(&self, name: &str) -> String {
        format!("{}/subnets/{name}", self.0)
    }
}

impl Fixture for Prefix {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(EtcdRegistry::open(options(&[SHARED.url()], &self.0)).unwrap())
    }

    fn set_config(&self, text: &str) {
        SHARED.put(&format!("{}/config", self.0), text).unwrap();
    }

    fn reserve(&self, name: &str, value: &str) {
        SHARED.put(&self.record(name), value).unwrap();
    }

    fn value(&self, name: &str) -> String {
        SHARED.get(&self.record(name)).unwrap()
    }

    fn delete(&self, name: &str) {
        SHARED.delete(&self.record(name)).unwrap();
    }

    /// A lease that is revoked takes its key along just as one that runs out.
    fn expire(&self, name: &str) {
        let words = ["get", "--write-out=json", &self.record(name)];
        let shown = SHARED.ctl(&words).unwrap();
        let found: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let lease = found["kvs"][0]["lease"].as_i64().unwrap();
        let words = ["lease", "revoke", &format!("{lease:x}")];
        SHARED.ctl(&words).unwrap();
    }
}

contract!(prefix);

fn key(text: &str) -> SubnetKey {
    text.parse().unwrap()
}

fn node(address: &str) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some(address.parse().unwrap()),
        ..LeaseAttrs::default()
    }
}

fn watch(registry: &dyn Registry) -> (Watch, Receiver<News>) {
    let (sender, news) = channel();
    let watch = registry
        .watch(Box::new(move |report| drop(sender.send(report))))
        .unwrap();
    (watch, news)
}

fn await_news(news: &Receiver<News>, wanted: impl Fn(&News) -> bool) -> News {
    loop {
        let report = news.recv_timeout(PATIENCE).expect("no such news");
        if wanted(&report) {
            return report;
        }
    }
}

fn keys(news: News) -> Vec<String> {
    let News::Snapshot(all) = news else {
        panic!("no snapshot: {news:?}")
    };
    all.leases
        .iter()
        .map(|lease| lease.key.to_string())
        .collect()
}

fn is_snapshot(news: &News) -> bool {
    matches!(news, News::Snapshot(_))
}

#[test]
fn a_prefix_is_written_like_a_path() {
    assert_eq!(clean("/coreos.com/network"), "/coreos.com/network");
    assert_eq!(clean("//kube-centos//network/"), "/kube-centos/network");
    assert_eq!(clean("network"), "network");
    assert_eq!(clean("/"), "/");
}

#[test]
fn keys_beside_the_subnets_are_no_leases() {
    // Stock lists whatever begins with the word, and believes it.
    let prefix = prefix();
    let beside = format!("{}/subnets-old/10.5.9.0-24", prefix.0);
    SHARED.put(&beside, r#"{"PublicIP":"1.2.3.4"}"#).unwrap();
    let found = prefix.registry().snapshot().unwrap();
    assert!(found.leases.is_empty() && found.bad.is_empty(), "{found:?}");
}

/// Writes records as the only one in a hurry: many in each transaction.
fn write_all(registry: &EtcdRegistry, records: impl Iterator<Item = (String, Vec<u8>)>) {
    let records: Vec<_> = records.collect();
    registry.block(async {
        let mut client = registry.0.store.pool.client().await.unwrap();
        for some in records.chunks(100) {
            let put = |(name, value): &(String, Vec<u8>)| {
                let key = format!("{}{name}", registry.0.store.subnets());
                TxnOp::put(key, value.clone(), None)
            };
            let all: Vec<_> = some.iter().map(put).collect();
            client.txn(Txn::new().and_then(all)).await.unwrap();
        }
    });
}

fn usual_value() -> Vec<u8> {
    node("1.2.3.4").to_json().into_bytes()
}

#[test]
fn many_leases_are_listed_whole() {
    let prefix = prefix();
    let registry = EtcdRegistry::open(options(&[SHARED.url()], &prefix.0)).unwrap();
    let many = super::listing::PAGE as usize + 10;
    let name = |n: usize| format!("10.{}.{}.0-24", n / 256, n % 256);
    write_all(&registry, (0..many).map(|n| (name(n), usual_value())));
    assert_eq!(registry.snapshot().unwrap().leases.len(), many);
}

#[test]
fn records_too_large_for_one_answer_hide_no_other() {
    let plan = Etcd::plan().flag("--max-request-bytes=12000000");
    let server = plan.launch().unwrap();
    let registry = open(&[server.url()]);
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    // Together they are more than an answer may have, and the last is that alone.
    let megabytes = |count: usize| vec![b'x'; count << 20];
    for (third, value) in [(1, 3), (2, 3), (3, 3), (4, 3), (6, 9)] {
        let name = format!("10.5.{third}.0-24");
        write_all(&registry, [(name, megabytes(value))].into_iter());
    }
    write_all(
        &registry,
        [("10.5.5.0-24".to_owned(), usual_value())].into_iter(),
    );
    let found = registry.snapshot().unwrap();
    assert_eq!((found.leases.len(), found.bad.len()), (1, 5), "{found:?}");
    // The stream cannot carry the largest one, and begins anew behind it.
    await_news(
        &news,
        |report| matches!(report, News::Snapshot(all) if all.bad.len() == 5 && all.leases.len() == 1),
    );
}

#[test]
fn what_is_told_of_a_bad_record_is_short() {
    let prefix = prefix();
    let registry = EtcdRegistry::open(options(&[SHARED.url()], &prefix.0)).unwrap();
    let long = "\u{e9}".repeat(100_000);
    let names = ["10.5.1.0-24".to_owned(), long.clone()];
    write_all(
        &registry,
        names
            .into_iter()
            .map(|name| (name, long.clone().into_bytes())),
    );
    let found = registry.snapshot().unwrap();
    assert_eq!(found.bad.len(), 2);
    assert!(found.bad.iter().all(|bad| bad.to_string().len() < 1000));
}

#[test]
fn renewing_leaves_no_etcd_lease_behind() {
    // Stock leaves one at every renewal and restart.
    let server = server();
    let registry = open(&[server.url()]);
    let mut lease = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    for _ in 0..3 {
        lease = registry.renew(&lease, &lease.attrs).unwrap();
    }
    assert!(
        registry
            .renew(
                &crate::lease::Lease {
                    revision: crate::lease::Revision(1, 1),
                    ..lease
                },
                &node("1.2.3.5")
            )
            .is_err()
    );
    assert!(
        registry
            .create(key("10.5.1.0-24"), &node("1.2.3.5"))
            .is_err()
    );
    let left = server.ctl(&["lease", "list"]).unwrap();
    assert!(left.starts_with("found 1 leases"), "{left}");
}

#[test]
fn a_dead_endpoint_costs_no_call() {
    let server = server();
    let dead = dead_url();
    let registry = open(&[dead.clone(), server.url(), dead]);
    for third in 1..20 {
        registry
            .create(key(&format!("10.5.{third}.0-24")), &node("1.2.3.4"))
            .unwrap();
    }
    assert_eq!(registry.snapshot().unwrap().leases.len(), 19);
}

#[test]
fn an_unreachable_server_is_an_error_that_names_it() {
    let dead = dead_url();
    let refused = open(std::slice::from_ref(&dead)).snapshot().unwrap_err();
    assert!(
        matches!(&refused, RegistryError::Unavailable(why) if why.contains(&dead) && why.contains("refused")),
        "{refused}"
    );
}

#[test]
fn a_watch_outlives_a_server_killed_and_started_again() {
    let mut server = server();
    let registry = open(&[server.url()]);
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    await_news(&news, |report| matches!(report, News::Put(_)));
    server.kill();
    await_news(&news, |report| matches!(report, News::Lost(_)));
    server.run().unwrap();
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), News::Regained);
    assert_eq!(keys(news.recv_timeout(PATIENCE).unwrap()), ["10.5.1.0-24"]);
    registry
        .create(key("10.5.2.0-24"), &node("1.2.3.5"))
        .unwrap();
    await_news(
        &news,
        |report| matches!(report, News::Put(lease) if lease.key == key("10.5.2.0-24")),
    );
}

#[test]
fn a_frozen_server_is_noticed_and_heard_again() {
    // Stock asks for no sign of life and may wait for ever.
    let server = server();
    let registry = open(&[server.url()]);
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    server.freeze().unwrap();
    await_news(&news, |report| matches!(report, News::Lost(_)));
    assert!(registry.snapshot().is_err());
    server.thaw().unwrap();
    await_news(&news, |report| *report == News::Regained);
    await_news(&news, is_snapshot);
}

#[test]
fn a_wiped_store_is_listed_anew() {
    // Stock waits at the old revision until the new store has as many.
    let mut server = server();
    let registry = open(&[server.url()]);
    for third in 1..10 {
        registry
            .create(key(&format!("10.5.{third}.0-24")), &node("1.2.3.4"))
            .unwrap();
    }
    let (_watch, news) = watch(&registry);
    assert_eq!(keys(await_news(&news, is_snapshot)).len(), 9);
    server.wipe().unwrap();
    assert!(keys(await_news(&news, is_snapshot)).is_empty());
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    await_news(&news, |report| matches!(report, News::Put(_)));
}

#[test]
fn watch_subnets_recovers_from_compaction() {
    // A change and its compaction both happen while the server does not answer us.
    let mut server = server();
    let registry = open(&[server.url()]);
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    server.kill();
    await_news(&news, |report| matches!(report, News::Lost(_)));
    server.run().unwrap();
    let moved = r#"{"PublicIP":"1.2.3.9"}"#;
    server.put("/net/subnets/10.5.1.0-24", moved).unwrap();
    server.compact().unwrap();
    let changed = |report: &News| match report {
        News::Snapshot(all) => all
            .leases
            .iter()
            .any(|lease| lease.attrs == node("1.2.3.9")),
        News::Put(lease) => lease.attrs == node("1.2.3.9"),
        _ => false,
    };
    await_news(&news, changed);
    registry
        .create(key("10.5.2.0-24"), &node("1.2.3.5"))
        .unwrap();
    await_news(
        &news,
        |report| matches!(report, News::Put(lease) if lease.key == key("10.5.2.0-24")),
    );
}

#[test]
fn a_watch_that_cannot_begin_ends_when_dropped() {
    let dead = dead_url();
    let (watch, news) = watch(&open(&[dead]));
    await_news(&news, |report| matches!(report, News::Lost(_)));
    drop(watch);
    assert!(news.recv().is_err());
}

#[test]
fn the_password_is_never_shown() {
    let user = Some(("root".to_owned(), "secret".to_owned()));
    let shown = format!(
        "{:?}",
        EtcdOptions {
            user,
            ..options(&[], "/net")
        }
    );
    assert!(
        shown.contains("root") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn a_user_is_logged_in_again_when_the_server_forgot() {
    let mut server = server();
    server.ctl(&["user", "add", "root:secret"]).unwrap();
    server.ctl(&["auth", "enable"]).unwrap();
    let user = |password: &str| Some(("root".to_owned(), password.to_owned()));
    let registry = EtcdRegistry::open(EtcdOptions {
        user: user("secret"),
        ..options(&[server.url()], "/net")
    })
    .unwrap();
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    server.kill();
    server.run().unwrap();
    assert_eq!(registry.snapshot().unwrap().leases.len(), 1);
    let stranger = EtcdRegistry::open(EtcdOptions {
        user: user("wrong"),
        ..options(&[server.url()], "/net")
    })
    .unwrap();
    let refused = stranger.snapshot().unwrap_err().to_string();
    assert!(refused.contains("authentication failed"), "{refused}");
}

#[test]
fn rights_that_change_do_not_end_a_log_in_for_good() {
    // A token names the revision of all users and rights; a change to any of them makes it worthless.
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let [public, private] = ["public.pem", "private.pem"].map(|name| dir.path().join(name));
    std::fs::write(&public, key.public_key_pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    let token = format!(
        "--auth-token=jwt,pub-key={},priv-key={},sign-method=ES256,ttl=10m",
        public.display(),
        private.display()
    );
    let server = Etcd::plan().flag(&token).launch().unwrap();
    server.ctl(&["user", "add", "root:secret"]).unwrap();
    server.ctl(&["auth", "enable"]).unwrap();
    let registry = EtcdRegistry::open(EtcdOptions {
        user: Some(("root".to_owned(), "secret".to_owned())),
        ..options(&[server.url()], "/net")
    })
    .unwrap();
    let lease = registry
        .create("10.5.1.0-24".parse().unwrap(), &node("1.2.3.4"))
        .unwrap();
    let words = ["--user=root:secret", "user", "add", "another:secret"];
    server.ctl(&words).unwrap();
    registry.renew(&lease, &lease.attrs).unwrap();
}
