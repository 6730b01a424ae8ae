//! The daemon's life: boot from top to bottom, follow the registry, shut down from bottom to top.

use crate::boot::boot;
use crate::dataplane::DataPlane;
use crate::engine_sink::EngineSink;
use crate::settings::Settings;
use crate::upkeep::Rules;
use crate::{manager, signals};
use anyhow::{Context, Result, anyhow};
use control::clock::since_boot;
use control::hold::Hold;
use control::registry::{News, Watch};
use control::sync::Sync;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tracing::info;

/// What can happen to a running daemon.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The registry reports.
    News(News),
    /// Something on the host changed.
    HostChanged,
    /// A worker ended, and why.
    EngineFailed(String),
    /// Somebody wants the daemon gone.
    Stop,
}

/// Time since boot is looked at this often even if nothing happens.
const LOOK_UP: Duration = Duration::from_secs(60);
/// Reports taken in before the table is renewed: a burst costs few tables, and none waits long.
const BURST: usize = 1000;

/// Runs until asked to stop.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    let (sender, happenings) = channel();
    signals::listen(sender.clone()).context("cannot listen for signals")?;
    match boot(settings, sender, &happenings)? {
        Some(daemon) => daemon.follow(&happenings),
        None => Ok(()),
    }
}

/// A daemon at work. Fields end in this order.
pub(crate) struct Daemon {
    pub(crate) _watch: Watch,
    pub(crate) hold: Hold,
    pub(crate) sync: Sync<EngineSink>,
    pub(crate) rules: Rules,
    pub(crate) dataplane: DataPlane,
}

impl Daemon {
    /// Does what happenings ask for until one of them is the end.
    fn follow(mut self, happenings: &Receiver<Happening>) -> Result<()> {
        let end = loop {
            let first = happenings.recv_timeout(self.patience());
            let more = happenings.try_iter().take(BURST).map(Ok);
            if let Some(end) = std::iter::once(first)
                .chain(more)
                .find_map(|happening| self.take(happening))
            {
                break end;
            }
            self.sync.settle(since_boot());
            self.hold.tick(since_boot());
            self.dataplane.tick(since_boot());
            self.rules.tick(since_boot());
        };
        self.shut_down();
        end
    }

    /// How long nothing needs to be done of our own accord.
    fn patience(&self) -> Duration {
        let dues = [
            self.hold.due(),
            self.sync.due(),
            self.dataplane.due(),
            self.rules.due(),
        ];
        let due = dues.into_iter().flatten().min();
        let wait = due.map(|due| due.saturating_sub(since_boot()));
        wait.unwrap_or(LOOK_UP).min(LOOK_UP)
    }

    /// Takes in a happening; one that ends the daemon says how.
    fn take(&mut self, happening: Result<Happening, RecvTimeoutError>) -> Option<Result<()>> {
        match happening {
            Ok(Happening::News(news)) => {
                let now = since_boot();
                self.hold.hear(&news, now);
                self.sync.hear(news, now);
                None
            }
            Ok(Happening::HostChanged) => {
                self.dataplane.doubt(since_boot());
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Happening::Stop) | Err(RecvTimeoutError::Disconnected) => Some(Ok(())),
            Ok(Happening::EngineFailed(why)) => {
                Some(Err(anyhow!("the engine cannot go on: {why}")))
            }
        }
    }

    fn shut_down(self) {
        manager::stopping();
        let Self {
            _watch: watch,
            hold,
            sync,
            rules: _,
            dataplane,
        } = self;
        drop((watch, hold, sync));
        let counters = dataplane.stop();
        let counted: Vec<String> = counters
            .nonzero()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        info!(
            "Exiting cleanly. Packets: {}",
            if counted.is_empty() {
                "none".to_owned()
            } else {
                counted.join(", ")
            }
        );
    }
}
