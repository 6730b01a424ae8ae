//! The registry on a real etcd, from outside: what flannel's own tests ask of a registry beyond the contract.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

use benches::etcd::Etcd;
use control::lease::{Lease, LeaseAttrs};
use control::registry::{EtcdOptions, EtcdRegistry, News, Registry, Watch};
use control::subnet_key::SubnetKey;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longer than anything here takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn open(etcd: &Etcd) -> EtcdRegistry {
    let options = EtcdOptions {
        endpoints: etcd.urls(),
        prefix: "/coreos.com/network".to_owned(),
        lease_time: DAY,
        ..EtcdOptions::default()
    };
    EtcdRegistry::open(options).unwrap()
}

fn key(third: u8) -> SubnetKey {
    format!("10.5.{third}.0-24").parse().unwrap()
}

fn node(last: u8) -> LeaseAttrs {
    LeaseAttrs::parse(&format!(r#"{{"PublicIP":"192.168.77.{last}"}}"#)).unwrap()
}

fn record(third: u8) -> String {
    format!("/coreos.com/network/subnets/10.5.{third}.0-24")
}

fn watch(registry: &EtcdRegistry) -> (Watch, Receiver<News>) {
    let (sender, news) = channel();
    let report = move |report| drop(sender.send(report));
    (registry.watch(Box::new(report)).unwrap(), news)
}

fn await_news(news: &Receiver<News>, wanted: impl Fn(&News) -> bool) {
    while !wanted(&news.recv_timeout(PATIENCE).expect("no such news")) {}
}

/// What the watcher must know after a snapshot: exactly these subnets.
fn lists(report: &News, thirds: &[u8]) -> bool {
    let News::Snapshot(all) = report else {
        return false;
    };
    let keys: Vec<_> = all.leases.iter().map(|lease| lease.key).collect();
    keys == thirds.iter().copied().map(key).collect::<Vec<_>>()
}

/// Lets the watch lose its server, and history pass that it will not be told any more.
fn behind_its_back(etcd: &mut Etcd, news: &Receiver<News>, work: impl FnOnce(&Etcd)) {
    etcd.kill();
    await_news(news, |report| matches!(report, News::Lost(_)));
    etcd.run().unwrap();
    work(etcd);
    etcd.compact().unwrap();
}

#[test]
fn watch_subnet_recovers_from_compaction() {
    let mut etcd = Etcd::start().unwrap();
    let registry = open(&etcd);
    let own = registry.create(key(1), &node(1)).unwrap();
    let (_watch, news) = watch(&registry);
    await_news(&news, |report| lists(report, &[1]));
    behind_its_back(&mut etcd, &news, |etcd| {
        etcd.put("/something/else", "x").unwrap();
    });
    await_news(&news, |report| lists(report, &[1]));
    registry.renew(&own, &node(2)).unwrap();
    // Compacted once more before the new watch has caught up, it is told by another listing.
    let renewed = |lease: &Lease| lease.key == key(1) && lease.attrs == node(2);
    await_news(&news, |report| match report {
        News::Put(lease) => renewed(lease),
        News::Snapshot(all) => all.leases.iter().any(renewed),
        _ => false,
    });
}

#[test]
fn watch_subnet_reports_removal_after_compaction() {
    let mut etcd = Etcd::start().unwrap();
    let registry = open(&etcd);
    registry.create(key(1), &node(1)).unwrap();
    registry.create(key(2), &node(2)).unwrap();
    let (_watch, news) = watch(&registry);
    await_news(&news, |report| lists(report, &[1, 2]));
    behind_its_back(&mut etcd, &news, |etcd| etcd.delete(&record(1)).unwrap());
    await_news(&news, |report| {
        lists(report, &[2]) || *report == News::Gone(key(1))
    });
}

#[test]
fn watch_subnet_survives_compaction_after_reconnect() {
    // The watch is well when history is compacted; only the restart afterwards makes it ask for what is gone.
    let mut etcd = Etcd::start().unwrap();
    let registry = open(&etcd);
    let (_watch, news) = watch(&registry);
    await_news(&news, |report| lists(report, &[]));
    for third in 1..5 {
        etcd.put(&record(third), r#"{"PublicIP":"192.168.77.9"}"#)
            .unwrap();
    }
    await_news(
        &news,
        |report| matches!(report, News::Put(lease) if lease.key == key(4)),
    );
    etcd.compact().unwrap();
    etcd.stop().unwrap();
    etcd.run().unwrap();
    registry.create(key(7), &node(7)).unwrap();
    await_news(&news, |report| {
        lists(report, &[1, 2, 3, 4, 7]) || matches!(report, News::Put(lease) if lease.key == key(7))
    });
}

#[test]
fn a_watch_whose_news_nobody_takes_ends_when_dropped() {
    let etcd = Etcd::start().unwrap();
    let registry = open(&etcd);
    let (watch, news) = watch(&registry);
    for third in 1..100 {
        registry.create(key(third), &node(third)).unwrap();
    }
    drop(watch);
    assert!(news.try_iter().count() > 0);
    assert!(news.recv().is_err(), "the sender is gone with the watch");
}

#[test]
fn a_renewed_lease_lasts_a_day_again() {
    let etcd = Etcd::start().unwrap();
    let registry = open(&etcd);
    let lease = registry.create(key(1), &node(1)).unwrap();
    let renewed = registry.renew(&lease, &lease.attrs).unwrap();
    assert_eq!(renewed.attrs, lease.attrs);
    let listed = etcd.ctl(&["lease", "list"]).unwrap();
    let id = listed.lines().last().unwrap();
    let told = etcd.ctl(&["lease", "timetolive", id, "--keys"]).unwrap();
    let left = told
        .split("remaining(")
        .nth(1)
        .and_then(|rest| rest.split('s').next());
    let left: i64 = left.unwrap().parse().unwrap();
    assert!((86_390..=86_400).contains(&left), "{told}");
    assert!(told.contains(&record(1)), "{told}");
}
