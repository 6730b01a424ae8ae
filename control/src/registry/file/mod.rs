//! The file store: a directory, shared by whatever means, with one file per lease.
//!
//! ```text
//! DIR/config                 network config, as under `config` in etcd
//! DIR/subnets/10.5.26.0-24   lease value, the very bytes etcd would hold
//! DIR/.lock                  held while a record changes; its time of modification is the store's clock
//! ```
//!
//! A lease lasts from its file's time of modification for the lease time; renewing touches the file. A file
//! without write permission is a reservation and lasts. Every time stamp is given by the file system, so
//! nodes that share it over the network need no agreement about the hour. Files whose time is up count as
//! absent and stay until their name is taken again. Names starting with a dot are drafts and ignored.

mod notify;
mod watcher;

use super::{BadRecord, News, Registry, RegistryError, Snapshot, Watch, parse_record};
use crate::atomic_file;
use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::subnet_key::SubnetKey;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use watcher::Watcher;

const MODE_LEASE: u32 = 0o644;
const MODE_RESERVATION: u32 = 0o444;
const OWNER_MAY_WRITE: u32 = 0o200;
/// No honest record or config comes near; more would only cost memory.
const TEXT_MAX: u64 = 64 * 1024;
/// Leases kept in a directory.
#[derive(Clone, Debug)]
pub struct FileRegistry {
    dir: PathBuf,
    config: PathBuf,
    lease_time: Duration,
}

/// What the store looked like at the last reading, so that only what changed is read again.
type Known = BTreeMap<String, Entry>;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    stamp: Revision,
    /// When its time is up; a reservation's never is.
    ends: Option<SystemTime>,
    content: Result<Lease, String>,
}

impl FileRegistry {
    /// Opens a store, making its directories where they are missing.
    pub fn open(dir: &Path, lease_time: Duration) -> io::Result<Self> {
        fs::create_dir_all(dir.join("subnets"))?;
        Ok(Self {
            dir: dir.to_owned(),
            config: dir.join("config"),
            lease_time,
        })
    }

    /// Takes the network config from this file instead of the store's own.
    pub fn with_config(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.config);
        self
    }

    fn subnets(&self) -> PathBuf {
        self.dir.join("subnets")
    }

    fn path(&self, key: SubnetKey) -> PathBuf {
        self.subnets().join(key.to_string())
    }

    /// Keeps other writers out, on this node and on others, until dropped.
    fn lock(&self) -> io::Result<File> {
        let file = self.open_lock()?;
        file.lock()?;
        Ok(file)
    }

    fn open_lock(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.dir.join(".lock"))
    }

    /// The time by the clock that stamps the records.
    fn now(&self) -> io::Result<SystemTime> {
        let file = self.open_lock()?;
        touch(&file)?;
        file.metadata()?.modified()
    }

    /// The record under a name as it is now, if it is there, readable, and its time is not up.
    fn current(&self, key: SubnetKey) -> io::Result<Option<Lease>> {
        let entry = absent_as_none(self.read_entry(&key.to_string()))?;
        Ok(entry.and_then(|entry| entry.content.ok()))
    }

    fn read_entry(&self, name: &str) -> io::Result<Entry> {
        let path = self.subnets().join(name);
        let found = fs::symlink_metadata(&path)?;
        if !found.is_file() {
            return Ok(Entry::unreadable(&found, "is no ordinary file"));
        }
        let mut file = File::open(&path)?;
        let found = file.metadata()?;
        let (stamp, reserved) = (stamp(&found), reserved(&found));
        let ends = found.modified()? + self.lease_time;
        let lease = |(key, attrs)| Lease {
            key,
            attrs,
            reserved,
            revision: stamp,
        };
        Ok(Entry {
            stamp,
            ends: (!reserved).then_some(ends),
            content: parse_record(name, read_bounded(&mut file)?.as_bytes()).map(lease),
        })
    }

    /// Reads the directory; records unchanged since `known` are not opened again.
    fn scan(&self, known: &Known) -> io::Result<Known> {
        let mut fresh = Known::new();
        let now = self.now()?;
        for found in fs::read_dir(self.subnets())? {
            let found = found?;
            let name = found.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            if let Some(entry) = absent_as_none(self.scan_entry(known, &name, &found))? {
                fresh.insert(name, entry);
            }
        }
        fresh.retain(|_, entry| !entry.over(now));
        Ok(fresh)
    }

    fn scan_entry(&self, known: &Known, name: &str, found: &fs::DirEntry) -> io::Result<Entry> {
        let metadata = found.metadata()?;
        let unchanged = known.get(name).filter(|entry| entry.unchanged(&metadata));
        if let Some(entry) = unchanged {
            return Ok(entry.clone());
        }
        match self.read_entry(name) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Ok(Entry::unreadable(&metadata, &error.to_string()))
            }
            entry => entry,
        }
    }

    fn read_config(&self) -> Result<String, RegistryError> {
        let read = File::open(&self.config).and_then(|mut file| read_bounded(&mut file));
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound => RegistryError::NoConfig(self.config_cure()),
            _ => unavailable(&self.config, &error),
        })
    }

    fn config_cure(&self) -> String {
        let path = self.config.display();
        format!(
            r#"Write one: echo '{{"Network":"10.5.0.0/16","Backend":{{"Type":"udp"}}}}' > {path}"#
        )
    }

    fn write(&self, key: SubnetKey, attrs: &LeaseAttrs, mode: u32) -> io::Result<Lease> {
        atomic_file::write(&self.path(key), attrs.to_json().as_bytes(), mode)?;
        self.written(key)
    }

    fn written(&self, key: SubnetKey) -> io::Result<Lease> {
        self.current(key)?
            .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the record just written is gone"))
    }

    fn try_create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> io::Result<Option<Lease>> {
        let _lock = self.lock()?;
        let (now, found) = (
            self.now()?,
            absent_as_none(self.read_entry(&key.to_string()))?,
        );
        if found.is_some_and(|entry| !entry.over(now)) {
            return Ok(None);
        }
        self.write(key, attrs, MODE_LEASE).map(Some)
    }

    fn try_renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> io::Result<Option<Lease>> {
        let _lock = self.lock()?;
        let Some(current) = self
            .current(seen.key)?
            .filter(|current| current.revision == seen.revision)
        else {
            return Ok(None);
        };
        if current.attrs != *attrs {
            let mode = if current.reserved {
                MODE_RESERVATION
            } else {
                MODE_LEASE
            };
            return self.write(seen.key, attrs, mode).map(Some);
        }
        if !current.reserved {
            touch(&File::open(self.path(seen.key))?)?;
        }
        self.written(seen.key).map(Some)
    }

    fn try_remove(&self, seen: &Lease) -> io::Result<bool> {
        let _lock = self.lock()?;
        match self.current(seen.key)? {
            None => Ok(true),
            Some(current) if current.revision != seen.revision => Ok(false),
            Some(_) => {
                let path = self.path(seen.key);
                fs::remove_file(&path)?;
                atomic_file::sync_directory(&path)?;
                Ok(true)
            }
        }
    }

    fn unavailable(&self, error: &io::Error) -> RegistryError {
        unavailable(&self.dir, error)
    }
}

impl Registry for FileRegistry {
    fn config(&self) -> Result<String, RegistryError> {
        self.read_config()
    }

    fn lease_time(&self) -> Duration {
        self.lease_time
    }

    fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        let known = self
            .scan(&Known::new())
            .map_err(|error| self.unavailable(&error))?;
        Ok(snapshot(&known))
    }

    fn create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        let created = self
            .try_create(key, attrs)
            .map_err(|error| self.unavailable(&error))?;
        created.ok_or(RegistryError::Conflict(key))
    }

    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        let renewed = self
            .try_renew(seen, attrs)
            .map_err(|error| self.unavailable(&error))?;
        renewed.ok_or(RegistryError::Conflict(seen.key))
    }

    fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        let removed = self
            .try_remove(seen)
            .map_err(|error| self.unavailable(&error))?;
        if removed {
            Ok(())
        } else {
            Err(RegistryError::Conflict(seen.key))
        }
    }

    fn watch(&self, news: Box<dyn FnMut(News) + Send>) -> Result<Watch, RegistryError> {
        Watcher::start(self.clone(), news).map_err(|error| self.unavailable(&error))
    }
}

fn snapshot(known: &Known) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, entry) in known {
        match &entry.content {
            Ok(lease) => snapshot.leases.push(lease.clone()),
            Err(why) => drop(snapshot.bad.insert(BadRecord::new(name, why))),
        }
    }
    snapshot
}

impl Entry {
    fn unreadable(found: &Metadata, why: &str) -> Self {
        Self {
            stamp: stamp(found),
            ends: None,
            content: Err(why.to_owned()),
        }
    }

    fn over(&self, now: SystemTime) -> bool {
        self.content.is_ok() && self.ends.is_some_and(|ends| ends <= now)
    }

    /// Making a file a reservation changes neither its time nor its number.
    fn unchanged(&self, found: &Metadata) -> bool {
        self.stamp == stamp(found) && self.ends.is_none() == reserved(found)
    }
}

fn reserved(found: &Metadata) -> bool {
    found.mode() & OWNER_MAY_WRITE == 0
}

fn stamp(found: &Metadata) -> Revision {
    let nanoseconds = found
        .mtime()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(found.mtime_nsec());
    Revision(nanoseconds as u64, found.ino())
}

fn touch(file: &File) -> io::Result<()> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    Ok(futimens(
        file,
        &Timestamps {
            last_access: now,
            last_modification: now,
        },
    )?)
}

fn read_bounded(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn unavailable(path: &Path, error: &io::Error) -> RegistryError {
    RegistryError::Unavailable(format!("file store {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
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
            fs::set_permissions(&path, fs::Permissions::from_mode(MODE_RESERVATION)).unwrap();
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
            fs::Permissions::from_mode(0o444),
        )
        .unwrap();
        directory.expire("10.5.1.0-24");
        assert!(store.snapshot().unwrap().leases[0].reserved);
        assert!(!lease.reserved);
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
}
