//! Waits until a directory may have changed: by inotify where the file system tells, else by the clock.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// The waiting side.
#[derive(Debug)]
pub(super) struct Notifier {
    changes: OwnedFd,
    stopped: File,
}

/// The other end: ends the wait for good.
#[derive(Debug)]
pub(super) struct Stop(File);

impl Notifier {
    pub(super) fn new() -> io::Result<(Self, Stop)> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let stopped = File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stop = Stop(stopped.try_clone()?);
        Ok((Self { changes, stopped }, stop))
    }

    /// Watches a directory of records, touched ones included. Asked again it is a no-op, or catches a new directory in the old one's place.
    pub(super) fn watch_records(&self, dir: &Path) {
        let touched = WatchFlags::ATTRIB;
        self.add(dir, NAMES | WatchFlags::CLOSE_WRITE | touched);
    }

    /// Watches one file, whether it is written in place or replaced; not its neighbours' content, as the store's lock is one of them.
    pub(super) fn watch_file(&self, path: &Path) {
        self.add(path, WatchFlags::CLOSE_WRITE);
        if let Some(dir) = path.parent() {
            self.add(dir, NAMES);
        }
    }

    /// Where watching is refused (directory missing, limit reached) the clock alone must do.
    fn add(&self, dir: &Path, flags: WatchFlags) {
        let _ = inotify::add_watch(&self.changes, dir, flags);
    }

    /// Waits for a change or the time limit; `false` once stopped.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let mut fds = [
            PollFd::new(&self.changes, PollFlags::IN),
            PollFd::new(&self.stopped, PollFlags::IN),
        ];
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&limit));
        let stopped = !fds[1].revents().is_empty();
        self.drain();
        !stopped
    }

    /// Whether a change waits to be noticed.
    #[cfg(test)]
    pub(super) fn changed(&self) -> bool {
        rustix::io::read(&self.changes, &mut [0; 4096]).is_ok()
    }

    /// What changed does not matter, as everything is looked at.
    fn drain(&self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.changes, &mut buffer).is_ok_and(|read| read > 0) {}
    }
}

impl Stop {
    pub(super) fn stop(mut self) {
        // The counter cannot overflow by one.
        let _ = self.0.write(&1u64.to_ne_bytes());
    }
}

const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO);
