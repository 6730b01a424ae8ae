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
#[cfg(test)]
mod tests;
mod watcher;

use super::{
    BadRecord, News, Record, Registry, RegistryError, Snapshot, Steward, Term, Watch, parse_record,
};
use crate::atomic_file;
use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::subnet_key::SubnetKey;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use watcher::Watcher;

const MODE_LEASE: u32 = 0o644;
const MODE_RESERVATION: u32 = 0o444;
const MODE_LOCK: u32 = 0o666;
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

    /// Nodes may be of several users; who may not use the directory gets no further than that.
    fn open_lock(&self) -> io::Result<File> {
        let (path, mut writing) = (self.dir.join(".lock"), OpenOptions::new());
        writing.write(true).truncate(false);
        match writing.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = writing.create(true).open(&path)?;
                // Whoever was faster has seen to it.
                let _ = file.set_permissions(Permissions::from_mode(MODE_LOCK));
                Ok(file)
            }
            opened => opened,
        }
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

    fn written(&self, key: SubnetKey) -> io::Result<Lease> {
        self.current(key)?
            .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the record just written is gone"))
    }

    /// Writes where the version expected stands; `None` where another one does.
    fn try_write(&self, record: Record<'_>, over: Option<&Lease>) -> io::Result<Option<Lease>> {
        let Record { key, attrs, term } = record;
        let _lock = self.lock()?;
        let now = self.now()?;
        let found = absent_as_none(self.read_entry(&key.to_string()))?;
        let expected = match (over, &found) {
            (None, found) => found.as_ref().is_none_or(|entry| entry.over(now)),
            (Some(seen), Some(entry)) => entry.holds(seen),
            (Some(_), None) => false,
        };
        if !expected {
            return Ok(None);
        }
        let same = |lease: &Lease| lease.attrs == *attrs && lease.reserved == term.is_reserved();
        let standing = found.and_then(|entry| entry.content.ok());
        // A lease of another length than usual is dated as if it had been written at another time.
        let dated = match term {
            Term::Leased(time) if time != self.lease_time => Some(now + time - self.lease_time),
            _ => None,
        };
        if !standing.as_ref().is_some_and(same) {
            let mode = match term {
                Term::Leased(_) => MODE_LEASE,
                Term::Reserved => MODE_RESERVATION,
            };
            let value = attrs.to_json();
            atomic_file::write_dated(&self.path(key), value.as_bytes(), mode, dated)?;
        } else if !term.is_reserved() {
            let file = File::open(self.path(key))?;
            match dated {
                Some(time) => file.set_modified(time)?,
                None => touch(&file)?,
            }
        }
        self.written(key).map(Some)
    }

    fn time_left(&self, seen: &Lease) -> io::Result<Option<Duration>> {
        let now = self.now()?;
        let found = absent_as_none(self.read_entry(&seen.key.to_string()))?;
        let Some(entry) = found.filter(|entry| entry.holds(seen)) else {
            return Ok(Some(Duration::ZERO));
        };
        let left = |ends: SystemTime| ends.duration_since(now).unwrap_or_default();
        Ok(entry.ends.map(left))
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
        self.write(Record::first(key, attrs, self.lease_time), None)
    }

    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.write(Record::after(seen, attrs, self.lease_time), Some(seen))
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

impl Steward for FileRegistry {
    fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError> {
        self.time_left(seen)
            .map_err(|error| self.unavailable(&error))
    }

    fn write(&self, record: Record<'_>, over: Option<&Lease>) -> Result<Lease, RegistryError> {
        let written = self
            .try_write(record, over)
            .map_err(|error| self.unavailable(&error))?;
        written.ok_or(RegistryError::Conflict(record.key))
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

    /// Whether this is the version somebody has seen.
    fn holds(&self, seen: &Lease) -> bool {
        let now = self.content.as_ref();
        now.is_ok_and(|lease| lease.revision == seen.revision)
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
