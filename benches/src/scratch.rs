//! A directory for logs and lease files that goes away with its owner.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const PREFIX: &str = "flannel-lab-";
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Held while a directory is made, and for good once the process is about to end.
static MAKING: Mutex<()> = Mutex::new(());
/// How often a directory is tried that a dying daemon still writes to, and how long between.
const REMOVALS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A fresh directory below the system's temporary directory, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory, and removes those whose process was killed before it could.
    pub fn new() -> io::Result<Self> {
        remove_stale(&std::env::temp_dir());
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        let _making = making();
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that cannot be removed now is removed by the next lab as a stale one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes every directory of this process, which cannot make another from then on: for signal handlers,
/// which run no destructors.
pub fn remove_own() {
    std::mem::forget(making());
    for _ in 0..REMOVALS {
        if remove_where(&std::env::temp_dir(), |owner| owner == std::process::id()) {
            return;
        }
        thread::sleep(PAUSE);
    }
}

fn making() -> MutexGuard<'static, ()> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_stale(below: &Path) {
    remove_where(below, |owner| {
        !Path::new(&format!("/proc/{owner}")).exists()
    });
}

/// Removes the directories whose owner is `gone`; whether none of them is left.
fn remove_where(below: &Path, gone: impl Fn(u32) -> bool) -> bool {
    let entries = fs::read_dir(below).into_iter().flatten().flatten();
    let stale =
        entries.filter(|entry| owner_of(&entry.file_name().to_string_lossy()).is_some_and(&gone));
    let kept = stale.filter(|entry| fs::remove_dir_all(entry.path()).is_err());
    kept.count() == 0
}

/// The process id in the name of a scratch directory.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_goes_away_with_its_owner() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert!(path.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner_of("flannel-lab-17-3"), Some(17));
        assert_eq!(owner_of("flannel-lab-x"), None);
        assert_eq!(owner_of("other-17-3"), None);
    }
}
