//! What an earlier run wrote down, for a start that need not wait for the store.

use crate::daemon::Desk;
use crate::plan::{own_attrs, vtep_mac};
use crate::settings::Settings;
use control::host::external_interface::ExternalInterface;
use control::lease::{Lease, Revision};
use control::mac::Mac;
use control::memory::{Forgotten, Memory, told};
use control::network::NetworkConfig;
use control::registry::{Registry, RegistryError};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;
use tracing::warn;

/// How long a start waits for the registry when packets pass already. A store in the same network answers in a
/// tenth of it; one that is slower is heard a moment later, and set against what was remembered.
const HEAD_START: Duration = Duration::from_millis(150);

/// Whether a start may use what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    Allowed,
    /// The registry has said something else since.
    Outdated,
}

/// What an earlier run knew.
pub(crate) struct Recalled {
    pub(crate) network: NetworkConfig,
    pub(crate) config: String,
    pub(crate) memory: Memory,
    age: Duration,
}

/// What is remembered, if it can be used at all; where it cannot, one line says why.
pub(crate) fn memory(desk: &Desk<'_>, recall: Recall) -> Option<(Memory, Duration)> {
    let path = desk.settings.state_file.as_ref()?;
    if recall == Recall::Outdated {
        return None;
    }
    match Memory::read(path, &desk.settings.store.name()) {
        Ok(found) => Some(found),
        Err(Forgotten::Absent) => None,
        Err(why) => {
            warn!(
                "{} is not used: {why}. This start needs the store",
                path.display()
            );
            None
        }
    }
}

/// A question to the registry, on a thread of its own, for a sign of life.
pub(crate) struct Asked(Receiver<Result<String, RegistryError>>);

impl Asked {
    /// Asks.
    pub(crate) fn begin(registry: &Arc<dyn Registry>) -> Self {
        let (sender, answer) = sync_channel(1);
        let asked = Arc::clone(registry);
        // Where no thread is to be had there will be no answer.
        let ask = move || asked.assigned().and_then(|_| asked.config());
        let _ = thread::Builder::new().spawn(move || drop(sender.send(ask())));
        Self(answer)
    }

    /// Waits a moment for the answer; an error says why there is none.
    pub(crate) fn answered_soon(&self) -> Result<(), String> {
        match self.0.recv_timeout(HEAD_START) {
            Ok(Err(RegistryError::Unavailable(why))) => Err(why),
            // It answers; whatever it says, it has to be asked again.
            Ok(_) => Ok(()),
            Err(_) => Err(format!("no answer within {} ms", HEAD_START.as_millis())),
        }
    }
}

/// What is remembered, if its config makes sense to this version.
pub(crate) fn usable((memory, age): (Memory, Duration), settings: &Settings) -> Option<Recalled> {
    match settings.network(&memory.config) {
        Ok(network) => Some(Recalled {
            network,
            config: memory.config.clone(),
            memory,
            age,
        }),
        Err(error) => {
            warn!("what this node knew is not used: {error}. This start needs the store");
            None
        }
    }
}

impl Recalled {
    /// The lease held at an interface, unless another node held it.
    pub(crate) fn held_at(
        &self,
        external: &ExternalInterface,
        standing_mac: Option<Mac>,
    ) -> Option<Lease> {
        let before = self.memory.own_attrs();
        let mac = standing_mac.or_else(|| before.and_then(vtep_mac));
        let attrs = own_attrs(
            &self.network,
            external,
            mac.unwrap_or_else(Mac::random_local),
        );
        if !before.is_some_and(|before| before.same_node(&attrs)) {
            return None;
        }
        Some(Lease {
            key: self.memory.own,
            attrs,
            reserved: false,
            revision: Revision::default(),
        })
    }

    /// Tells what a start goes by.
    pub(crate) fn told(&self) -> String {
        format!(
            "what this node knew {} ago: lease {}, {} records",
            told(self.age),
            self.memory.own,
            self.memory.records.len()
        )
    }
}
