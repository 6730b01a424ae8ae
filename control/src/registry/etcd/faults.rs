//! What goes wrong with servers, as tests over every version of etcd's API. A version takes part by making a
//! [`Dialect`] and saying `faults!(its_dialect)`.

use super::{EtcdApi, EtcdOptions, EtcdRegistry};
use crate::lease::LeaseAttrs;
use crate::registry::{News, Record, Registry, RegistryError, Steward, Term, Watch};
use crate::subnet_key::SubnetKey;
use benches::authority::{Authority, Identity};
use benches::etcd::{Clients, Etcd, Plan};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86400);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const PREFIX: &str = "/net";

/// A version of the API, with the hands an operator has by it.
pub(super) trait Dialect {
    /// The version spoken by the registry under test.
    fn api(&self) -> EtcdApi;
    /// A server that speaks it.
    fn plan(&self) -> Plan;
    /// Writes a value that lasts.
    fn put(&self, etcd: &Etcd, key: &str, value: &str);
    /// Has the server forget what has changed so far.
    fn forget(&self, etcd: &Etcd);
    /// Lets in nobody but root, whose password is `secret`.
    fn guard(&self, etcd: &Etcd);
    /// What a wrong password is answered with.
    fn refusal(&self) -> &'static str;
}

/// Makes every test of the suite for a dialect.
macro_rules! faults {
    ($dialect:expr) => {
        $crate::registry::etcd::faults::faults!($dialect,
            keys_beside_the_subnets_are_no_leases,
            a_record_lasts_as_long_as_its_writer_wants,
            a_dead_endpoint_costs_no_call,
            an_unreachable_server_is_an_error_that_names_it,
            a_watch_outlives_a_server_killed_and_started_again,
            a_frozen_server_is_noticed_and_heard_again,
            a_wiped_store_is_listed_anew,
            watch_subnets_recovers_from_compaction,
            a_watch_that_cannot_begin_ends_when_dropped,
            a_user_is_logged_in_again_when_the_server_forgot,
            an_authority_alone_is_enough,
            a_server_of_an_unknown_authority_is_refused,
            a_server_of_another_name_is_refused,
            our_certificate_is_shown_where_it_is_asked_for,
            a_certificate_that_is_replaced_is_used_without_a_restart,
            a_plain_url_stays_plain_beside_tls_settings,
            a_missing_file_is_told_at_start
        );
    };
    ($dialect:expr, $($name:ident),+) => {
        $(#[test]
        fn $name() {
            $crate::registry::etcd::faults::$name(&$dialect);
        })+
    };
}
pub(super) use faults;

/// The URL of a server that does not run.
fn dead_url() -> String {
    Etcd::plan().prepare().unwrap().url()
}

fn server(dialect: &dyn Dialect) -> Etcd {
    dialect.plan().launch().unwrap()
}

fn options(dialect: &dyn Dialect, endpoints: &[String]) -> EtcdOptions {
    EtcdOptions {
        api: dialect.api(),
        endpoints: endpoints.to_vec(),
        prefix: PREFIX.to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    }
}

fn open(dialect: &dyn Dialect, endpoints: &[String]) -> EtcdRegistry {
    EtcdRegistry::open(options(dialect, endpoints)).unwrap()
}

pub(super) fn key(text: &str) -> SubnetKey {
    text.parse().unwrap()
}

pub(super) fn node(address: &str) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some(address.parse().unwrap()),
        ..LeaseAttrs::default()
    }
}

pub(super) fn watch(registry: &dyn Registry) -> (Watch, Receiver<News>) {
    let (sender, news) = channel();
    let watch = registry
        .watch(Box::new(move |report| drop(sender.send(report))))
        .unwrap();
    (watch, news)
}

pub(super) fn await_news(news: &Receiver<News>, wanted: impl Fn(&News) -> bool) -> News {
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

pub(super) fn is_snapshot(news: &News) -> bool {
    matches!(news, News::Snapshot(_))
}

pub(super) fn keys_beside_the_subnets_are_no_leases(dialect: &dyn Dialect) {
    // Stock lists whatever begins with the word, and believes it.
    let server = server(dialect);
    let beside = "/net/subnets-old/10.5.9.0-24";
    dialect.put(&server, beside, r#"{"PublicIP":"1.2.3.4"}"#);
    let found = open(dialect, &[server.url()]).snapshot().unwrap();
    assert!(found.leases.is_empty() && found.bad.is_empty(), "{found:?}");
}

pub(super) fn a_record_lasts_as_long_as_its_writer_wants(dialect: &dyn Dialect) {
    let server = server(dialect);
    let registry = open(dialect, &[server.url()]);
    let attrs = node("1.2.3.4");
    let record = |term| Record {
        key: key("10.5.1.0-24"),
        attrs: &attrs,
        term,
    };
    let month = record(Term::Leased(30 * DAY));
    let lease = registry.write(month, None).unwrap();
    let left = registry.left(&lease).unwrap().unwrap();
    assert!(left > 29 * DAY && left <= 30 * DAY, "{left:?}");
    let kept = registry
        .write(record(Term::Reserved), Some(&lease))
        .unwrap();
    assert_eq!((kept.reserved, registry.left(&kept).unwrap()), (true, None));
    let short = record(Term::Leased(Duration::from_secs(1)));
    let ending = registry.write(short, Some(&kept)).unwrap();
    while !registry.snapshot().unwrap().leases.is_empty() {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(registry.left(&ending).unwrap(), Some(Duration::ZERO));
}

pub(super) fn a_dead_endpoint_costs_no_call(dialect: &dyn Dialect) {
    let server = server(dialect);
    let dead = dead_url();
    let registry = open(dialect, &[dead.clone(), server.url(), dead]);
    for third in 1..20 {
        registry
            .create(key(&format!("10.5.{third}.0-24")), &node("1.2.3.4"))
            .unwrap();
    }
    assert_eq!(registry.snapshot().unwrap().leases.len(), 19);
}

pub(super) fn an_unreachable_server_is_an_error_that_names_it(dialect: &dyn Dialect) {
    let dead = dead_url();
    let refused = open(dialect, std::slice::from_ref(&dead))
        .snapshot()
        .unwrap_err();
    assert!(
        matches!(&refused, RegistryError::Unavailable(why) if why.contains(&dead) && why.contains("refused")),
        "{refused}"
    );
}

pub(super) fn a_watch_outlives_a_server_killed_and_started_again(dialect: &dyn Dialect) {
    let mut server = server(dialect);
    let registry = open(dialect, &[server.url()]);
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    await_news(&news, |report| matches!(report, News::Put(_)));
    server.kill();
    await_news(&news, |report| matches!(report, News::Lost(_)));
    server.run().unwrap();
    // A slow machine has more than one cause to tell of first.
    await_news(&news, |report| *report == News::Regained);
    assert_eq!(keys(news.recv_timeout(PATIENCE).unwrap()), ["10.5.1.0-24"]);
    registry
        .create(key("10.5.2.0-24"), &node("1.2.3.5"))
        .unwrap();
    await_news(
        &news,
        |report| matches!(report, News::Put(lease) if lease.key == key("10.5.2.0-24")),
    );
}

pub(super) fn a_frozen_server_is_noticed_and_heard_again(dialect: &dyn Dialect) {
    // Stock asks for no sign of life and may wait for ever.
    let server = server(dialect);
    let registry = open(dialect, &[server.url()]);
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    server.freeze().unwrap();
    await_news(&news, |report| matches!(report, News::Lost(_)));
    assert!(registry.snapshot().is_err());
    server.thaw().unwrap();
    await_news(&news, |report| *report == News::Regained);
    await_news(&news, is_snapshot);
}

pub(super) fn a_wiped_store_is_listed_anew(dialect: &dyn Dialect) {
    // Stock waits at the old revision until the new store has as many.
    let mut server = server(dialect);
    let registry = open(dialect, &[server.url()]);
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

pub(super) fn watch_subnets_recovers_from_compaction(dialect: &dyn Dialect) {
    // A change and its compaction both happen while the server does not answer us.
    let mut server = server(dialect);
    let registry = open(dialect, &[server.url()]);
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let (_watch, news) = watch(&registry);
    await_news(&news, is_snapshot);
    server.kill();
    await_news(&news, |report| matches!(report, News::Lost(_)));
    server.run().unwrap();
    let moved = r#"{"PublicIP":"1.2.3.9"}"#;
    dialect.put(&server, "/net/subnets/10.5.1.0-24", moved);
    dialect.forget(&server);
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

pub(super) fn a_watch_that_cannot_begin_ends_when_dropped(dialect: &dyn Dialect) {
    let dead = dead_url();
    let (watch, news) = watch(&open(dialect, &[dead]));
    await_news(&news, |report| matches!(report, News::Lost(_)));
    drop(watch);
    assert!(news.recv().is_err());
}

pub(super) fn a_user_is_logged_in_again_when_the_server_forgot(dialect: &dyn Dialect) {
    let mut server = server(dialect);
    dialect.guard(&server);
    let user = |password: &str| Some(("root".to_owned(), password.to_owned()));
    let registry = EtcdRegistry::open(EtcdOptions {
        user: user("secret"),
        ..options(dialect, &[server.url()])
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
        ..options(dialect, &[server.url()])
    })
    .unwrap();
    let refused = stranger.snapshot().unwrap_err().to_string();
    assert!(refused.contains(dialect.refusal()), "{refused}");
}

/// A server behind TLS that talks to some clients.
fn secured(dialect: &dyn Dialect, clients: Clients) -> Etcd {
    dialect.plan().clients(clients).launch().unwrap()
}

fn trusting(dialect: &dyn Dialect, server: &Etcd) -> EtcdOptions {
    EtcdOptions {
        ca_file: server.authority().map(Authority::certificate),
        ..options(dialect, &server.urls())
    }
}

fn files(identity: Identity) -> (PathBuf, PathBuf) {
    (identity.certificate, identity.key)
}

/// A client's certificate that somebody else signed.
fn stranger() -> (Authority, (PathBuf, PathBuf)) {
    let authority = Authority::new().unwrap();
    let identity = authority.sign("client", &["node1"]).unwrap();
    (authority, files(identity))
}

fn refusal(options: EtcdOptions) -> String {
    match EtcdRegistry::open(options).unwrap().snapshot() {
        Err(RegistryError::Unavailable(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn answers(options: EtcdOptions) -> bool {
    EtcdRegistry::open(options).unwrap().snapshot().is_ok()
}

pub(super) fn an_authority_alone_is_enough(dialect: &dyn Dialect) {
    // Stock drops all TLS settings unless it has a certificate of its own.
    assert!(answers(trusting(dialect, &secured(dialect, Clients::Tls))));
}

pub(super) fn a_server_of_an_unknown_authority_is_refused(dialect: &dyn Dialect) {
    let server = secured(dialect, Clients::Tls);
    let (stranger, _) = stranger();
    let why = refusal(EtcdOptions {
        ca_file: Some(stranger.certificate()),
        ..trusting(dialect, &server)
    });
    assert!(why.contains("certificate"), "{why}");
    let why = refusal(EtcdOptions {
        ca_file: None,
        ..trusting(dialect, &server)
    });
    assert!(why.contains("certificate"), "{why}");
}

pub(super) fn a_server_of_another_name_is_refused(dialect: &dyn Dialect) {
    let elsewhere = dialect
        .plan()
        .clients(Clients::Tls)
        .known_as("etcd.elsewhere");
    let why = refusal(trusting(dialect, &elsewhere.launch().unwrap()));
    assert!(why.contains("not valid for"), "{why}");
}

pub(super) fn our_certificate_is_shown_where_it_is_asked_for(dialect: &dyn Dialect) {
    let server = secured(dialect, Clients::Certified);
    let [_, certificate, key] = server.client_files().unwrap();
    assert!(answers(EtcdOptions {
        identity: Some((certificate, key)),
        ..trusting(dialect, &server)
    }));
    assert!(!answers(trusting(dialect, &server)));
}

pub(super) fn a_certificate_that_is_replaced_is_used_without_a_restart(dialect: &dyn Dialect) {
    let server = secured(dialect, Clients::Certified);
    let [_, certificate, key] = server.client_files().unwrap();
    let (_stranger, used) = stranger();
    let registry = EtcdRegistry::open(EtcdOptions {
        identity: Some(used.clone()),
        ..trusting(dialect, &server)
    })
    .unwrap();
    assert!(registry.snapshot().is_err());
    fs::copy(certificate, used.0).unwrap();
    fs::copy(key, used.1).unwrap();
    assert!(registry.snapshot().is_ok());
}

pub(super) fn a_plain_url_stays_plain_beside_tls_settings(dialect: &dyn Dialect) {
    let (stranger, _) = stranger();
    assert!(answers(EtcdOptions {
        ca_file: Some(stranger.certificate()),
        ..trusting(dialect, &secured(dialect, Clients::Plain))
    }));
}

pub(super) fn a_missing_file_is_told_at_start(dialect: &dyn Dialect) {
    let options = EtcdOptions {
        ca_file: Some("/none.pem".into()),
        ..options(dialect, &["https://127.0.0.1:1".to_owned()])
    };
    let why = EtcdRegistry::open(options).unwrap_err().to_string();
    assert!(why.contains("none.pem"), "{why}");
}
