//! The registry against a real etcd: the contract, and what goes wrong with servers.

use super::EtcdV3;
use super::liar::Liar;
use super::watcher::{begin, next};
use crate::registry::contract::{Fixture, contract};
use crate::registry::etcd::faults::{
    Dialect, PATIENCE, await_news, faults, is_snapshot, key, node, watch,
};
use crate::registry::etcd::speech::Speech as _;
use crate::registry::etcd::watcher::End;
use crate::registry::etcd::{EtcdApi, EtcdOptions};
use crate::registry::{News, Registry, Steward as _};
use benches::etcd::{Etcd, Plan};
use etcd_client::{Txn, TxnOp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::timeout;

const DAY: Duration = Duration::from_secs(86400);

static SHARED: LazyLock<Etcd> = LazyLock::new(server);

fn server() -> Etcd {
    Etcd::start().unwrap()
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

fn open(endpoints: &[String]) -> EtcdV3 {
    EtcdV3::open(options(endpoints, "/net")).unwrap()
}

impl Prefix {
    fn record(&self, name: &str) -> String {
        format!("{}/subnets/{name}", self.0)
    }
}

impl Fixture for Prefix {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(EtcdV3::open(options(&[SHARED.url()], &self.0)).unwrap())
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

struct Version3;

impl Dialect for Version3 {
    fn api(&self) -> EtcdApi {
        EtcdApi::V3
    }

    fn plan(&self) -> Plan {
        Etcd::plan()
    }

    fn put(&self, etcd: &Etcd, key: &str, value: &str) {
        etcd.put(key, value).unwrap();
    }

    fn forget(&self, etcd: &Etcd) {
        etcd.compact().unwrap();
    }

    fn guard(&self, etcd: &Etcd) {
        etcd.ctl(&["user", "add", "root:secret"]).unwrap();
        etcd.ctl(&["auth", "enable"]).unwrap();
    }

    fn refusal(&self) -> &'static str {
        "authentication failed"
    }
}

faults!(Version3);

/// Writes records as the only one in a hurry: many in each transaction.
fn write_all(registry: &EtcdV3, records: impl Iterator<Item = (String, Vec<u8>)>) {
    let records: Vec<_> = records.collect();
    registry.block(async {
        let mut client = registry.store().pool.link().await.unwrap();
        for some in records.chunks(100) {
            let put = |(name, value): &(String, Vec<u8>)| {
                let key = format!("{}{name}", registry.store().subnets());
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
    let registry = EtcdV3::open(options(&[SHARED.url()], &prefix.0)).unwrap();
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
    write_all(
        &registry,
        [("10.5.5.0-24".to_owned(), usual_value())].into_iter(),
    );
    for (third, value) in [(1, 3), (2, 3), (3, 3), (4, 3), (6, 9)] {
        let name = format!("10.5.{third}.0-24");
        write_all(&registry, [(name, megabytes(value))].into_iter());
    }
    let found = registry.snapshot().unwrap();
    assert_eq!((found.leases.len(), found.bad.len()), (1, 5), "{found:?}");
    // The stream cannot carry the largest one, and begins anew behind it.
    await_news(
        &news,
        |report| matches!(report, News::Snapshot(all) if all.bad.len() == 5 && all.leases.len() == 1),
    );
    server.put("/net/subnets/10.5.7.0-24", "{}").unwrap();
    await_news(&news, |report| matches!(report, News::Put(_)));
}

#[test]
fn a_removal_that_is_compacted_away_at_once_is_not_missed() {
    let server = server();
    let registry = open(&[server.url()]);
    let store = registry.store();
    server.put("/net/subnets/10.5.1.0-24", "{}").unwrap();
    let listing = registry.block(store.list()).unwrap();
    server.delete("/net/subnets/10.5.1.0-24").unwrap();
    server.compact().unwrap();
    let watch = async {
        let mut stream = begin(store, listing.revision as i64, false).await?;
        next(&mut stream).await.map(drop)
    };
    let refused = registry.block(async { timeout(PATIENCE, watch).await });
    let end = refused.expect("the watch is told nothing").unwrap_err();
    assert!(matches!(end, End::Missed), "{end:?}");
}

#[test]
fn a_server_that_tells_of_the_past_is_listed_anew() {
    let liar = Liar::telling(&[(5, "1.2.3.5"), (7, "1.2.3.7"), (6, "1.2.3.6")]);
    let registry = open(&[liar.url()]);
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    let says =
        |report: &News, address| matches!(report, News::Put(lease) if lease.attrs == node(address));
    await_news(&news, |report| says(report, "1.2.3.7"));
    let lost =
        |report: &News| matches!(report, News::Lost(why) if why.contains("revision 6 after 7"));
    let next = await_news(&news, |_| true);
    assert!(lost(&next), "{next:?}");
    await_news(&news, is_snapshot);
}

#[test]
fn what_is_told_of_a_bad_record_is_short() {
    let prefix = prefix();
    let registry = EtcdV3::open(options(&[SHARED.url()], &prefix.0)).unwrap();
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
        let before = lease.revision;
        lease = registry.renew(&lease, &lease.attrs).unwrap();
        // No other lease is asked for: whoever is killed before it is used leaves it behind.
        assert!(lease.revision.1 == before.1 && lease.revision != before);
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
fn a_lease_of_another_length_is_replaced() {
    let server = server();
    let of_length = |lease_time| {
        let usual = options(&[server.url()], "/net");
        EtcdV3::open(EtcdOptions {
            lease_time,
            ..usual
        })
        .unwrap()
    };
    let short = of_length(DAY);
    let lease = short.create(key("10.5.1.0-24"), &node("1.2.3.4")).unwrap();
    let long = of_length(2 * DAY);
    let replaced = long.renew(&lease, &lease.attrs).unwrap();
    assert_ne!(replaced.revision.1, lease.revision.1);
    assert!(long.left(&replaced).unwrap() > Some(DAY));
    let left = server.ctl(&["lease", "list"]).unwrap();
    assert!(left.starts_with("found 1 leases"), "{left}");
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
    let registry = EtcdV3::open(EtcdOptions {
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
