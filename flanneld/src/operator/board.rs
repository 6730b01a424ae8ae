//! What the control loop writes up at every turn for whoever asks, so that an answer needs nothing of it.

use console::answers::{Network, Node, Others};
use control::clock::since_boot;
use ipnet::IpNet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shared by the control loop and those who answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Notes>>);

/// What is on it. Times are since boot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// When the loop turned last.
    pub(crate) turned: Duration,
    /// Why the daemon does not work yet.
    pub(crate) waiting_for: Option<String>,
    /// The daemon, once there is one.
    pub(crate) daemon: Option<Note>,
}

/// A daemon at work.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) node: Node,
    pub(crate) network: Network,
    pub(crate) lease: LeaseNote,
    pub(crate) contact: ContactNote,
    pub(crate) others: Others,
    /// Whether every worker answered when last called.
    pub(crate) workers_answer: bool,
    /// What else is wrong, in words for the operator.
    pub(crate) problems: Vec<String>,
}

/// The lease and its times.
#[derive(Clone, Debug)]
pub(crate) struct LeaseNote {
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) standing: &'static str,
    pub(crate) reserved: bool,
    pub(crate) since: Duration,
    pub(crate) renewed: Option<Duration>,
    pub(crate) renewal: Option<Duration>,
    pub(crate) end: Option<Duration>,
    pub(crate) record: String,
}

/// Whether the store answers, and since when.
#[derive(Clone, Debug)]
pub(crate) struct ContactNote {
    pub(crate) answers: bool,
    pub(crate) since: Duration,
    pub(crate) why: Option<String>,
}

impl Board {
    /// The daemon cannot go on for this reason.
    pub(crate) fn waiting(&self, fault: &str) {
        let mut notes = self.notes();
        notes.turned = since_boot();
        notes.waiting_for = Some(fault.to_owned());
    }

    /// The daemon works, like this.
    pub(crate) fn works(&self, note: Note) {
        *self.notes() = Notes {
            turned: since_boot(),
            waiting_for: None,
            daemon: Some(note),
        };
    }

    /// All that is on it.
    pub(crate) fn read(&self) -> Notes {
        self.notes().clone()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
