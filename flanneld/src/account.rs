//! The last words: what was counted, told once, whoever comes to it first.

use engine::{Counters, Engine};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tracing::info;

/// How long workers may take to halt. They are asked between two batches of packets.
const HALT_LIMIT: Duration = Duration::from_millis(80);

/// What all engines of this process have counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    /// Of engines that have ended.
    past: Counters,
    running: Weak<Engine>,
    told: bool,
}

impl Account {
    /// This engine counts from now on.
    pub(crate) fn open(&self, engine: &Arc<Engine>) {
        self.books().running = Arc::downgrade(engine);
    }

    /// The engine at work, if there is one.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.books().running.upgrade()
    }

    /// All that was counted so far.
    pub(crate) fn counted(&self) -> Counters {
        let books = self.books();
        let mut counted = books.past.clone();
        if let Some(engine) = books.running.upgrade() {
            counted.add(&engine.counters());
        }
        counted
    }

    /// Lets an engine begin that has waited for it.
    pub(crate) fn go(&self) {
        if let Some(engine) = self.engine() {
            engine.go();
        }
    }

    /// The running engine is about to end; others may follow.
    pub(crate) fn close(&self) {
        let mut books = self.books();
        if let Some(engine) = std::mem::take(&mut books.running).upgrade() {
            let counted = engine.halt(HALT_LIMIT);
            books.past.add(&counted);
        }
    }

    /// Has the engine halt and tells what was counted, unless that has been told.
    pub(crate) fn tell(&self) {
        self.close();
        let mut books = self.books();
        if std::mem::replace(&mut books.told, true) {
            return;
        }
        let counted: Vec<String> = books
            .past
            .nonzero()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let counted = if counted.is_empty() {
            "none".to_owned()
        } else {
            counted.join(", ")
        };
        info!("Exiting cleanly. Packets: {counted}");
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
