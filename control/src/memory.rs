//! What a run leaves for the next: config, lease and peers, so that a node whose store is down starts from them.
//!
//! ```text
//! flanneld-state 1 CHECKSUM        of all that follows
//! saved SECONDS                    since 1970
//! host ID
//! store NAME
//! config "JSON TEXT"
//! own 10.5.26.0-24
//! 10.5.26.0-24 {"PublicIP":...}    one line for each record, our own included
//! ```

use crate::atomic_file;
use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::registry::{Snapshot, parse_record};
use crate::subnet_key::SubnetKey;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const VERSION: &str = "flanneld-state 1";
/// Peers may have moved in the meantime, and their packets would go to strangers.
const AGE_MAX: Duration = Duration::from_secs(7 * 86400);
/// How far another clock may have been ahead.
const SKEW_MAX: Duration = Duration::from_secs(3600);
/// More than the largest network has; anything longer is not ours.
const BYTES_MAX: u64 = 64 << 20;

/// What this node knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Which store it is from.
    pub store: String,
    /// The network config's text.
    pub config: String,
    /// Our own lease.
    pub own: SubnetKey,
    /// Every record that could be read.
    pub records: Vec<(SubnetKey, LeaseAttrs)>,
}

/// Why there is nothing to remember.
#[derive(Debug, thiserror::Error)]
pub enum Forgotten {
    /// Nothing has been written.
    #[error("there is none")]
    Absent,
    /// It cannot be read, or may be somebody's trap.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It has no end.
    #[error("it is longer than any state of ours")]
    TooLong,
    /// Written by a daemon that writes other things.
    #[error("it is of another version")]
    OtherVersion,
    /// Not as it was written.
    #[error("it is corrupted")]
    Corrupted,
    /// Of another machine.
    #[error("it is from another host")]
    OtherHost,
    /// Of another network.
    #[error("it is from another store, {0}")]
    OtherStore(String),
    /// Nobody knows what has changed since.
    #[error("it is {} old", told(*.0))]
    TooOld(Duration),
    /// The clock was set back, so its age is not known.
    #[error("its date lies in the future")]
    FromTheFuture,
}

impl Memory {
    /// What our own record said.
    pub fn own_attrs(&self) -> Option<&LeaseAttrs> {
        let mut records = self.records.iter();
        records
            .find(|(key, _)| *key == self.own)
            .map(|(_, attrs)| attrs)
    }

    /// The records, as a registry would tell them.
    pub fn snapshot(self) -> Snapshot {
        let lease = |(key, attrs)| Lease {
            key,
            attrs,
            reserved: false,
            revision: Revision::default(),
        };
        Snapshot {
            leases: self.records.into_iter().map(lease).collect(),
            bad: BTreeSet::new(),
        }
    }

    /// Writes it down, in place of what was written before.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        atomic_file::replace(path, self.to_text().as_bytes(), 0o600)
    }

    /// As it is written down, with the present date.
    pub fn to_text(&self) -> String {
        self.text(SystemTime::now(), &host())
    }

    /// Reads what a daemon on this host says about a store, with its age.
    pub fn from_text(text: &str, store: &str) -> Result<(Self, Duration), Forgotten> {
        Self::parse(text, store, &host(), SystemTime::now())
    }

    /// Reads what this host wrote about a store, however long ago: it tells which subnet was ours, not where others are.
    pub fn read_however_old(path: &Path, store: &str) -> Result<Self, Forgotten> {
        Self::parse_any(&read_bounded(path)?, store, &host()).map(|(memory, _)| memory)
    }

    /// Reads what this host wrote about a store, with its age.
    pub fn read(path: &Path, store: &str) -> Result<(Self, Duration), Forgotten> {
        Self::from_text(&read_bounded(path)?, store)
    }

    /// As it is written down by a host at a time.
    pub(crate) fn text(&self, now: SystemTime, host: &str) -> String {
        sealed(&self.body(now, host))
    }

    fn body(&self, now: SystemTime, host: &str) -> String {
        let saved = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A JSON text in a JSON string is one line, whatever it looked like.
        let config = serde_json::Value::from(self.config.as_str());
        let mut body = format!(
            "saved {saved}\nhost {host}\nstore {}\nconfig {config}\nown {}\n",
            self.store, self.own
        );
        for (key, attrs) in &self.records {
            // Writing to a string does not fail.
            let _ = writeln!(body, "{key} {}", attrs.to_json());
        }
        body
    }

    /// Reads what a host wrote, with its age at a time.
    pub(crate) fn parse(
        text: &str,
        store: &str,
        host: &str,
        now: SystemTime,
    ) -> Result<(Self, Duration), Forgotten> {
        let (memory, saved) = Self::parse_any(text, store, host)?;
        Ok((memory, age(saved, now)?))
    }

    /// Reads a text of any age, and when it was written, in seconds since 1970.
    fn parse_any(text: &str, store: &str, host: &str) -> Result<(Self, u64), Forgotten> {
        let body = checked(text)?;
        let mut lines = body.lines();
        let mut head = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(' '))
                .ok_or(Forgotten::Corrupted)
        };
        let saved = head("saved")?.parse();
        let saved = saved.map_err(|_| Forgotten::Corrupted)?;
        if head("host")? != host {
            return Err(Forgotten::OtherHost);
        }
        let theirs = head("store")?;
        if theirs != store {
            return Err(Forgotten::OtherStore(theirs.to_owned()));
        }
        let config = serde_json::from_str(head("config")?).map_err(|_| Forgotten::Corrupted)?;
        let own = head("own")?.parse().map_err(|_| Forgotten::Corrupted)?;
        let records = lines.map(record).collect::<Option<_>>();
        let memory = Self {
            store: theirs.to_owned(),
            config,
            own,
            records: records.ok_or(Forgotten::Corrupted)?,
        };
        Ok((memory, saved))
    }
}

/// A time span in words.
pub fn told(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

/// A body behind the checksum of it.
pub(crate) fn sealed(body: &str) -> String {
    format!("{VERSION} {:016x}\n{body}", checksum(body))
}

fn checked(text: &str) -> Result<&str, Forgotten> {
    let (head, body) = text.split_once('\n').ok_or(Forgotten::OtherVersion)?;
    let sum = head
        .strip_prefix(VERSION)
        .and_then(|sum| sum.strip_prefix(' '))
        .ok_or(Forgotten::OtherVersion)?;
    let intact = u64::from_str_radix(sum, 16).is_ok_and(|sum| sum == checksum(body));
    intact.then_some(body).ok_or(Forgotten::Corrupted)
}

fn age(saved: u64, now: SystemTime) -> Result<Duration, Forgotten> {
    let saved = UNIX_EPOCH.checked_add(Duration::from_secs(saved));
    let saved = saved.ok_or(Forgotten::Corrupted)?;
    match now.duration_since(saved) {
        Ok(age) if age > AGE_MAX => Err(Forgotten::TooOld(age)),
        Ok(age) => Ok(age),
        Err(ahead) if ahead.duration() > SKEW_MAX => Err(Forgotten::FromTheFuture),
        Err(_) => Ok(Duration::ZERO),
    }
}

fn record(line: &str) -> Option<(SubnetKey, LeaseAttrs)> {
    let (key, value) = line.split_once(' ')?;
    parse_record(key, value.as_bytes()).ok()
}

/// FNV-1a: against a disk that lies, not against a person, who could as well write a file that is right.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What tells this machine from others; nothing where nobody gave it a name.
fn host() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    id.trim().to_owned()
}

fn read_bounded(path: &Path) -> Result<String, Forgotten> {
    let file = match atomic_file::open_own(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Forgotten::Absent),
        file => file?,
    };
    if file.metadata()?.len() > BYTES_MAX {
        return Err(Forgotten::TooLong);
    }
    io::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Forgotten::Corrupted,
        _ => Forgotten::Unreadable(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const STORE: &str = "/coreos.com/network";

    fn memory() -> Memory {
        let record = |line: &str| record(line).unwrap();
        Memory {
            store: STORE.to_owned(),
            config: "{\n \"Network\": \"10.5.0.0/16\"}".to_owned(),
            own: "10.5.1.0-24".parse().unwrap(),
            records: vec![
                record(r#"10.5.1.0-24 {"PublicIP":"192.168.77.1"}"#),
                record(
                    r#"10.5.2.0-24 {"PublicIP":"192.168.77.2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}}"#,
                ),
            ],
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn text() -> String {
        memory().text(now(), "here")
    }

    fn reason(text: &str, host: &str, now: SystemTime) -> String {
        let read = Memory::parse(text, STORE, host, now);
        read.unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let later = now() + Duration::from_secs(90);
        let (read, age) = Memory::parse(&text(), STORE, "here", later).unwrap();
        assert_eq!((read, told(age)), (memory(), "90 s".to_owned()));
    }

    #[test]
    fn it_is_written_for_the_owner_alone_and_read_back_from_disk() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state");
        assert!(matches!(Memory::read(&path, STORE), Err(Forgotten::Absent)));
        memory().write(&path).unwrap();
        assert_eq!(Memory::read(&path, STORE).unwrap().0, memory());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let text = text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(
                Memory::parse(&changed, STORE, "here", now()).is_err(),
                "byte {at}"
            );
        }
        for length in 0..text.len() {
            let cut = &text[..length];
            assert!(Memory::parse(cut, STORE, "here", now()).is_err());
        }
    }

    #[test]
    fn what_cannot_be_relied_on_is_ignored_with_a_reason() {
        let day = Duration::from_secs(86400);
        assert_eq!(reason(&text(), "there", now()), "it is from another host");
        assert_eq!(reason(&text(), "here", now() + 8 * day), "it is 8 days old");
        assert_eq!(
            reason(&text(), "here", now() - day),
            "its date lies in the future"
        );
        let newer = text().replace("flanneld-state 1", "flanneld-state 2");
        assert_eq!(reason(&newer, "here", now()), "it is of another version");
        let body = memory().body(now(), "here").replace("own 10.", "own x");
        assert_eq!(reason(&sealed(&body), "here", now()), "it is corrupted");
        let elsewhere = Memory::parse(&text(), "/other", "here", now());
        assert_eq!(
            elsewhere.unwrap_err().to_string(),
            "it is from another store, /coreos.com/network"
        );
    }

    #[test]
    fn our_own_subnet_is_known_however_long_ago_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let year_ago = SystemTime::now() - Duration::from_secs(365 * 86400);
        fs::write(&path, sealed(&memory().body(year_ago, &host()))).unwrap();
        assert!(Memory::read(&path, STORE).is_err());
        let read = Memory::read_however_old(&path, STORE).unwrap();
        assert_eq!(read.own, memory().own);
        assert!(Memory::read_however_old(&path, "/other").is_err());
    }

    #[test]
    fn a_link_in_its_place_is_neither_followed_nor_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("state"));
        memory().write(&target).unwrap();
        symlink(&target, &path).unwrap();
        let read = Memory::read(&path, STORE);
        assert!(read.unwrap_err().to_string().contains("symbolic link"));
        assert!(memory().write(&path).is_err());
    }
}
