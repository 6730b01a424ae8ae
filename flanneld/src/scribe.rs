//! Writes down what this node knows, for a start while the store is away: some time after a change, never in its way.

use control::memory::Memory;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tracing::warn;

/// Changes come in groups.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two writings.
const PAUSE: Duration = Duration::from_secs(10);
/// What has not changed is confirmed this often, while the store is there to confirm it.
const CONFIRM: Duration = Duration::from_secs(3600);

/// Looks after the state file.
#[derive(Debug)]
pub(crate) struct Scribe {
    path: Option<PathBuf>,
    /// When to write down a change.
    due: Option<Duration>,
    /// When to confirm what is written.
    confirm: Option<Duration>,
    in_touch: bool,
    last: Option<Duration>,
    writing: Option<JoinHandle<()>>,
    failing: Arc<AtomicBool>,
}

impl Scribe {
    /// Writes to this file; without one, never.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            due: None,
            confirm: None,
            in_touch: false,
            last: None,
            writing: None,
            failing: Arc::default(),
        }
    }

    /// Something worth keeping has changed, as reported by the store.
    pub(crate) fn changed(&mut self, now: Duration) {
        let soon = self.last.map_or(now, |last| now.max(last + PAUSE - SETTLE)) + SETTLE;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// The store has said all there is.
    pub(crate) fn in_touch(&mut self, now: Duration) {
        self.in_touch = true;
        self.changed(now);
    }

    /// What is written down may not be so any more, and nobody can tell.
    pub(crate) fn out_of_touch(&mut self) {
        self.in_touch = false;
        self.confirm = None;
    }

    /// When [`Scribe::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        let due = self.due.into_iter().chain(self.confirm).min();
        due.filter(|_| self.path.is_some())
    }

    /// Writes if it is time to.
    pub(crate) fn tick(&mut self, now: Duration, memory: impl FnOnce() -> Memory) {
        let Some(path) = self.path.clone() else {
            return;
        };
        if self.due().is_none_or(|due| now < due) || !self.finished(now) {
            return;
        }
        self.last = Some(now);
        self.due = None;
        self.confirm = self.in_touch.then_some(now + CONFIRM);
        let (memory, failing) = (memory(), Arc::clone(&self.failing));
        let write = move || {
            tell(memory.write(&path), &failing);
            // What is written down has just been loaded, or changed much; neither will be needed again soon.
            drop(memory);
            engine::give_back_memory();
        };
        let writer = thread::Builder::new().name("state".to_owned());
        match writer.spawn(write) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => tell(Err(error), &self.failing),
        }
    }

    /// Whether the last writing has come to its end; looked at again a little later where it has not.
    fn finished(&mut self, now: Duration) -> bool {
        let writes = self.writing.as_ref().is_some_and(|one| !one.is_finished());
        if writes {
            self.due = Some(now + SETTLE);
        }
        !writes
    }
}

/// A failure is told once.
fn tell(outcome: io::Result<()>, failing: &AtomicBool) {
    let failed_before = failing.swap(outcome.is_err(), Ordering::Relaxed);
    if let Err(error) = outcome
        && !failed_before
    {
        warn!(
            "cannot write down what this node knows: {error}. A restart while the store is away would have to wait for it; see --state-file"
        );
    }
}
