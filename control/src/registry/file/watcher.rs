//! The thread that follows a directory of leases.

use super::notify::Notifier;
use super::{FileRegistry, Known, snapshot};
use crate::registry::{BadRecord, News, Watch};
use std::io;
use std::thread;
use std::time::Duration;

/// How often the directory is read without having been told to: network file systems tell nothing.
const RESCAN: Duration = Duration::from_secs(5);

/// The thread that reads the directory whenever it may have changed and tells the difference.
pub(super) struct Watcher {
    store: FileRegistry,
    notifier: Notifier,
    news: Box<dyn FnMut(News) + Send>,
    known: Option<Known>,
    config: Option<String>,
    lost: bool,
}

impl Watcher {
    /// Starts the thread.
    pub(super) fn start(
        store: FileRegistry,
        news: Box<dyn FnMut(News) + Send>,
    ) -> io::Result<Watch> {
        let (notifier, stop) = Notifier::new()?;
        let watcher = Self {
            store,
            notifier,
            news,
            known: None,
            config: None,
            lost: false,
        };
        let thread = thread::Builder::new().name("file-store".to_owned());
        let thread = thread.spawn(|| watcher.run())?;
        Ok(Watch::new(thread, move || stop.stop()))
    }

    fn run(mut self) {
        loop {
            // Watching before reading: what changes in between is then noticed at the next turn.
            self.notifier.watch_records(&self.store.subnets());
            self.notifier.watch_file(&self.store.config);
            self.look();
            if !self.notifier.wait(RESCAN) {
                return;
            }
        }
    }

    fn look(&mut self) {
        let nothing = Known::new();
        match self.store.scan(self.known.as_ref().unwrap_or(&nothing)) {
            Ok(fresh) => self.found(fresh),
            Err(error) => self.failed(&error),
        }
        self.look_at_config();
    }

    fn found(&mut self, fresh: Known) {
        if std::mem::take(&mut self.lost) {
            (self.news)(News::Regained);
        }
        match self.known.replace(fresh) {
            None => self.tell_all(),
            Some(before) => self.tell_difference(&before),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.lost, true) {
            (self.news)(News::Lost(self.store.unavailable(error).to_string()));
        }
    }

    fn tell_all(&mut self) {
        let all = self.known.as_ref().map(snapshot).unwrap_or_default();
        (self.news)(News::Snapshot(all));
    }

    fn tell_difference(&mut self, before: &Known) {
        let Some(now) = &self.known else { return };
        for (name, entry) in now {
            if before.get(name) != Some(entry) {
                (self.news)(match &entry.content {
                    Ok(lease) => News::Put(lease.clone()),
                    Err(why) => News::Bad(BadRecord::new(name, why)),
                });
            }
        }
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        for key in gone.filter_map(|name| name.parse().ok()) {
            (self.news)(News::Gone(key));
        }
    }

    /// A config that cannot be read now is no news: what was read before goes on.
    fn look_at_config(&mut self) {
        let Ok(text) = self.store.read_config() else {
            return;
        };
        if self.config.as_ref() != Some(&text) {
            self.config = Some(text.clone());
            (self.news)(News::Config(text));
        }
    }
}
