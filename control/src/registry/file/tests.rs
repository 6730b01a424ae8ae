//! The contract on a directory, and what is its own.

use super::notify::Notifier;
use super::*;
use crate::registry::contract::{Fixture, contract};
use std::fs::FileTimes;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86400);

struct Directory(TempDir);

fn directory() -> Directory {
    let directory = Directory(tempfile::tempdir().unwrap());
    directory.store();
    directory
}

impl Directory {
    fn store(&self) -> FileRegistry {
        FileRegistry::open(self.0.path(), DAY).unwrap()
    }

    fn record(&self, name: &str) -> PathBuf {
        self.0.path().join("subnets").join(name)
    }
}

impl Fixture for Directory {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.store())
    }

    fn set_config(&self, text: &str) {
        fs::write(self.0.path().join("config"), text).unwrap();
    }

    fn reserve(&self, name: &str, value: &str) {
        let path = self.record(name);
        fs::write(&path, value).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(MODE_RESERVATION)).unwrap();
    }

    fn value(&self, name: &str) -> String {
        fs::read_to_string(self.record(name)).unwrap()
    }

    fn delete(&self, name: &str) {
        fs::remove_file(self.record(name)).unwrap();
    }

    fn expire(&self, name: &str) {
        let file = File::open(self.record(name)).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        let past = written - 2 * DAY;
        file.set_times(FileTimes::new().set_accessed(past).set_modified(past))
            .unwrap();
    }
}

contract!(directory);

#[test]
fn a_store_that_cannot_be_read_is_no_empty_store() {
    let directory = directory();
    let store = directory.store();
    store
        .create("10.5.1.0-24".parse().unwrap(), &LeaseAttrs::default())
        .unwrap();
    fs::rename(
        directory.0.path().join("subnets"),
        directory.0.path().join("away"),
    )
    .unwrap();
    assert!(matches!(
        store.snapshot(),
        Err(RegistryError::Unavailable(_))
    ));
}

#[test]
fn a_lost_directory_is_told_once_and_costs_no_lease() {
    let directory = directory();
    let store = directory.store();
    store
        .create("10.5.1.0-24".parse().unwrap(), &LeaseAttrs::default())
        .unwrap();
    let (sender, news) = channel();
    let _watch = store
        .watch(Box::new(move |report| drop(sender.send(report))))
        .unwrap();
    assert!(matches!(news.recv().unwrap(), News::Snapshot(_)));
    let (here, away) = (
        directory.0.path().join("subnets"),
        directory.0.path().join("away"),
    );
    fs::rename(&here, &away).unwrap();
    assert!(matches!(news.recv().unwrap(), News::Lost(_)));
    fs::rename(&away, &here).unwrap();
    assert_eq!(news.recv().unwrap(), News::Regained);
}

#[test]
fn drafts_directories_and_pipes_are_no_leases() {
    let directory = directory();
    fs::write(directory.record(".10.5.1.0-24.0123"), "draft").unwrap();
    fs::create_dir(directory.record("10.5.2.0-24")).unwrap();
    let snapshot = directory.store().snapshot().unwrap();
    assert_eq!((snapshot.leases.len(), snapshot.bad.len()), (0, 1));
}

#[test]
fn a_lease_made_read_only_becomes_a_reservation() {
    let directory = directory();
    let store = directory.store();
    let lease = store
        .create("10.5.1.0-24".parse().unwrap(), &LeaseAttrs::default())
        .unwrap();
    fs::set_permissions(
        directory.record("10.5.1.0-24"),
        Permissions::from_mode(0o444),
    )
    .unwrap();
    directory.expire("10.5.1.0-24");
    assert!(store.snapshot().unwrap().leases[0].reserved);
    assert!(!lease.reserved);
}

#[test]
fn a_record_lasts_as_long_as_its_writer_wants() {
    let directory = directory();
    let store = directory.store();
    let (key, attrs) = ("10.5.1.0-24".parse().unwrap(), LeaseAttrs::default());
    for time in [DAY / 24, 30 * DAY] {
        let record = |term| Record {
            key,
            attrs: &attrs,
            term,
        };
        let lease = store.write(record(Term::Leased(time)), None).unwrap();
        let left = store.left(&lease).unwrap().unwrap();
        assert!(left <= time && left > time - DAY / 48, "{left:?}");
        let kept = store.write(record(Term::Reserved), Some(&lease));
        let kept = kept.unwrap();
        assert_eq!((kept.reserved, store.left(&kept).unwrap()), (true, None));
        let again = store.write(record(Term::Leased(DAY)), Some(&kept));
        store.remove(&again.unwrap()).unwrap();
    }
}

#[test]
fn the_stores_own_clock_does_not_wake_its_watcher() {
    // Reading the clock writes to a file beside the config; watched too closely, one look led to the next.
    let directory = directory();
    let (notifier, _stop) = Notifier::new().unwrap();
    let store = directory.store();
    store.now().unwrap();
    notifier.watch_records(&store.subnets());
    notifier.watch_file(&store.config);
    store.scan(&Known::new()).unwrap();
    assert!(!notifier.changed());
}
