//! What every registry must do, as tests over the trait. A store passes by making a [`Fixture`] and saying
//! `contract!(its_fixture)`.

use super::{News, Registry, RegistryError, Watch};
use crate::lease::{Lease, LeaseAttrs};
use crate::subnet_key::SubnetKey;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// A store of its own for one test, with the hands an operator has on it.
pub(super) trait Fixture {
    /// The registry under test.
    fn registry(&self) -> Arc<dyn Registry>;
    /// Writes the network config.
    fn set_config(&self, text: &str);
    /// Writes a record that lasts, as an operator does for a reservation.
    fn reserve(&self, name: &str, value: &str);
    /// The bytes of a record.
    fn value(&self, name: &str) -> String;
    /// Removes a record.
    fn delete(&self, name: &str);
    /// Lets the time of a leased record run out.
    fn expire(&self, name: &str);
}

/// Makes every test of the contract for the fixture a function returns.
macro_rules! contract {
    ($fixture:path) => {
        $crate::registry::contract::contract!($fixture,
            a_missing_config_is_named_with_its_cure,
            the_config_is_the_text_written,
            a_lease_has_the_exact_bytes,
            a_name_can_be_taken_once,
            a_lease_is_renewed_only_in_the_version_seen,
            a_renewed_lease_says_what_it_is_told,
            a_lease_is_removed_only_in_the_version_seen,
            a_reservation_stays_one,
            bad_records_are_listed_beside_the_good_ones,
            of_many_who_create_one_wins,
            of_many_who_renew_one_wins,
            a_watch_begins_with_all_there_is,
            a_watch_reports_what_is_added_renewed_and_removed,
            a_watch_reports_what_an_operator_does,
            a_watch_reports_a_lease_that_ran_out,
            a_watch_reports_the_config_and_its_changes,
            a_dropped_watch_is_silent
        );
    };
    ($fixture:path, $($name:ident),+) => {
        $(#[test]
        fn $name() {
            $crate::registry::contract::$name(&$fixture());
        })+
    };
}
pub(super) use contract;

/// Longer than anything here takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn key(text: &str) -> SubnetKey {
    text.parse().unwrap()
}

fn node(address: &str) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some(address.parse().unwrap()),
        ..LeaseAttrs::default()
    }
}

fn lists(registry: &dyn Registry) -> Vec<String> {
    let leases = registry.snapshot().unwrap().leases;
    leases
        .iter()
        .map(|lease| format!("{lease} {}", lease.attrs.to_json()))
        .collect()
}

fn conflict<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> bool {
    matches!(outcome, Err(RegistryError::Conflict(_)))
}

fn watch(registry: &dyn Registry) -> (Watch, Receiver<News>) {
    let (sender, news) = channel();
    let watch = registry
        .watch(Box::new(move |report| drop(sender.send(report))))
        .unwrap();
    (watch, news)
}

/// The first report the question says yes to, passing over others.
fn await_news(news: &Receiver<News>, wanted: impl Fn(&News) -> bool) -> News {
    loop {
        let report = news.recv_timeout(PATIENCE).expect("no such news");
        if wanted(&report) {
            return report;
        }
    }
}

fn is_put(news: &News, key: SubnetKey) -> bool {
    matches!(news, News::Put(lease) if lease.key == key)
}

pub(super) fn a_missing_config_is_named_with_its_cure(fixture: &dyn Fixture) {
    let refused = fixture.registry().config();
    assert!(
        matches!(&refused, Err(RegistryError::NoConfig(cure)) if cure.contains("Network")),
        "{refused:?}"
    );
}

pub(super) fn the_config_is_the_text_written(fixture: &dyn Fixture) {
    fixture.set_config("{\"Network\": \"10.5.0.0/16\"}\n");
    assert_eq!(
        fixture.registry().config().unwrap(),
        "{\"Network\": \"10.5.0.0/16\"}\n"
    );
}

pub(super) fn a_lease_has_the_exact_bytes(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    assert_eq!(
        fixture.value("10.5.1.0-24"),
        r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#
    );
    assert_eq!(
        lists(&*registry),
        [r#"10.5.1.0-24 {"PublicIP":"1.2.3.4","PublicIPv6":null}"#]
    );
}

pub(super) fn a_name_can_be_taken_once(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    registry
        .create(key("10.5.1.0-24&fd05::-64"), &node("1.2.3.4"))
        .unwrap();
    assert!(conflict(
        registry.create(key("10.5.1.0-24&fd05::-64"), &node("1.2.3.5"))
    ));
    assert!(lists(&*registry)[0].contains("1.2.3.4"));
}

pub(super) fn a_lease_is_renewed_only_in_the_version_seen(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    let first = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let second = registry.renew(&first, &node("1.2.3.4")).unwrap();
    assert!(conflict(registry.renew(&first, &node("1.2.3.4"))));
    fixture.delete("10.5.1.0-24");
    assert!(conflict(registry.renew(&second, &node("1.2.3.4"))));
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.5"))
        .unwrap();
    assert!(conflict(registry.renew(&second, &node("1.2.3.4"))));
    assert!(lists(&*registry)[0].contains("1.2.3.5"));
}

pub(super) fn a_renewed_lease_says_what_it_is_told(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    let first = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let same = registry.renew(&first, &first.attrs).unwrap();
    assert_ne!(same.revision, first.revision);
    let other = registry.renew(&same, &node("1.2.3.9")).unwrap();
    assert_eq!(other.attrs, node("1.2.3.9"));
    assert!(lists(&*registry)[0].contains("1.2.3.9"));
}

pub(super) fn a_lease_is_removed_only_in_the_version_seen(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    let first = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let second = registry.renew(&first, &node("1.2.3.4")).unwrap();
    assert!(conflict(registry.remove(&first)));
    registry.remove(&second).unwrap();
    assert!(lists(&*registry).is_empty());
    registry.remove(&second).unwrap();
}

pub(super) fn a_reservation_stays_one(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    fixture.reserve("10.5.7.0-24", r#"{"PublicIP":"1.2.3.4"}"#);
    let reserved = registry.snapshot().unwrap().leases.remove(0);
    assert!(reserved.reserved);
    let same = registry.renew(&reserved, &reserved.attrs).unwrap();
    let changed = registry.renew(&same, &node("1.2.3.9")).unwrap();
    assert!(same.reserved && changed.reserved);
    assert!(registry.snapshot().unwrap().leases[0].reserved);
    assert!(conflict(
        registry.create(key("10.5.7.0-24"), &node("1.2.3.5"))
    ));
}

pub(super) fn bad_records_are_listed_beside_the_good_ones(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    fixture.reserve("garbage", "x");
    fixture.reserve("10.5.2.0-24", "no JSON");
    let snapshot = registry.snapshot().unwrap();
    let bad: Vec<&str> = snapshot.bad.iter().map(|record| &*record.name).collect();
    assert_eq!(
        (snapshot.leases.len(), bad),
        (1, vec!["10.5.2.0-24", "garbage"])
    );
    assert!(snapshot.keys().any(|taken| taken == key("10.5.2.0-24")));
    assert!(conflict(
        registry.create(key("10.5.2.0-24"), &node("1.2.3.5"))
    ));
}

/// How many of sixteen threads that do the same at once succeed.
fn winners(fixture: &dyn Fixture, act: impl Fn(&dyn Registry, u8) -> bool + Sync) -> usize {
    let registries: Vec<_> = (0..16).map(|_| fixture.registry()).collect();
    thread::scope(|scope| {
        let act = &act;
        let start =
            |(host, registry): (u8, Arc<dyn Registry>)| scope.spawn(move || act(&*registry, host));
        let racers: Vec<_> = (1..).zip(registries).map(start).collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .filter(|won| *won)
            .count()
    })
}

pub(super) fn of_many_who_create_one_wins(fixture: &dyn Fixture) {
    let create = |registry: &dyn Registry, host: u8| {
        registry
            .create(key("10.5.1.0-24"), &node(&format!("1.2.3.{host}")))
            .is_ok()
    };
    assert_eq!(winners(fixture, create), 1);
}

pub(super) fn of_many_who_renew_one_wins(fixture: &dyn Fixture) {
    let seen = fixture
        .registry()
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let renew = |registry: &dyn Registry, host: u8| {
        registry
            .renew(&seen, &node(&format!("1.2.3.{host}")))
            .is_ok()
    };
    assert_eq!(winners(fixture, renew), 1);
}

pub(super) fn a_watch_begins_with_all_there_is(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    fixture.reserve("garbage", "x");
    let (_watch, news) = watch(&*registry);
    let News::Snapshot(all) = news.recv_timeout(PATIENCE).unwrap() else {
        panic!("no snapshot first")
    };
    assert_eq!((all.leases.len(), all.bad.len()), (1, 1));
}

pub(super) fn a_watch_reports_what_is_added_renewed_and_removed(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    let (_watch, news) = watch(&*registry);
    await_news(&news, |report| matches!(report, News::Snapshot(_)));
    let first = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    assert_eq!(
        await_news(&news, |report| is_put(report, first.key)),
        News::Put(first.clone())
    );
    let second = registry.renew(&first, &node("1.2.3.9")).unwrap();
    let told = |report: &News| matches!(report, News::Put(lease) if lease.attrs == node("1.2.3.9"));
    let News::Put(Lease { revision, .. }) = await_news(&news, told) else {
        unreachable!()
    };
    assert_eq!(revision, second.revision);
    registry.remove(&second).unwrap();
    await_news(&news, |report| *report == News::Gone(first.key));
}

pub(super) fn a_watch_reports_what_an_operator_does(fixture: &dyn Fixture) {
    let (_watch, news) = watch(&*fixture.registry());
    fixture.reserve("10.5.7.0-24", r#"{"PublicIP":"1.2.3.4"}"#);
    let known = |report: &News| {
        is_put(report, key("10.5.7.0-24"))
            || matches!(report, News::Snapshot(all) if !all.leases.is_empty())
    };
    await_news(&news, known);
    fixture.reserve("10.5.7.0-24", "nonsense");
    await_news(
        &news,
        |report| matches!(report, News::Bad(record) if record.name == "10.5.7.0-24"),
    );
    fixture.reserve("10.5.7.0-24", r#"{"PublicIP":"1.2.3.5"}"#);
    await_news(&news, |report| is_put(report, key("10.5.7.0-24")));
    fixture.delete("10.5.7.0-24");
    await_news(&news, |report| *report == News::Gone(key("10.5.7.0-24")));
}

pub(super) fn a_watch_reports_a_lease_that_ran_out(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    let lease = registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    let (_watch, news) = watch(&*registry);
    await_news(&news, |report| matches!(report, News::Snapshot(_)));
    fixture.expire("10.5.1.0-24");
    await_news(&news, |report| *report == News::Gone(lease.key));
    assert!(lists(&*registry).is_empty());
    assert!(conflict(registry.renew(&lease, &lease.attrs)));
    registry.create(lease.key, &node("1.2.3.5")).unwrap();
}

pub(super) fn a_watch_reports_the_config_and_its_changes(fixture: &dyn Fixture) {
    fixture.set_config("one");
    let (_watch, news) = watch(&*fixture.registry());
    await_news(&news, |report| *report == News::Config("one".to_owned()));
    fixture.set_config("two");
    await_news(&news, |report| *report == News::Config("two".to_owned()));
}

pub(super) fn a_dropped_watch_is_silent(fixture: &dyn Fixture) {
    let registry = fixture.registry();
    let (watch, news) = watch(&*registry);
    drop(watch);
    while news.try_recv().is_ok() {}
    registry
        .create(key("10.5.1.0-24"), &node("1.2.3.4"))
        .unwrap();
    assert!(news.recv().is_err());
}
