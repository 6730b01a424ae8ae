//! The daemon at work: waits for what happens, and keeps lease, peers and host as they should be.

use crate::account::Account;
use crate::backend::Backend;
use crate::boot::boot;
use crate::caller::Caller;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::underlay::Underlay;
use crate::upkeep::Rules;
use crate::{manager, signals};
use anyhow::{Context, Result};
use control::clock::since_boot;
use control::hold::{Answer, Hold};
use control::host::external_interface::ExternalInterface;
use control::registry::{News, Watch};
use control::sync::Sync;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tracing::{info, warn};

/// What can happen to a running daemon.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The registry reports.
    News(News),
    /// The registry answers.
    Answered(Answer),
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
    let account = Account::default();
    signals::listen(sender.clone(), account.clone()).context("cannot listen for signals")?;
    let mut daemon = boot(settings, &account, sender, &happenings)?;
    if let Some(daemon) = &mut daemon {
        daemon.follow(&happenings);
    }
    manager::stopping();
    // First the account, then the slow part: devices go away with the last of what is dropped.
    account.tell();
    Ok(())
}

/// A daemon at work. Fields end in this order.
pub(crate) struct Daemon<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) account: &'a Account,
    pub(crate) happenings: Sender<Happening>,
    pub(crate) caller: Caller,
    pub(crate) hold: Hold,
    pub(crate) sync: Sync<Backend>,
    pub(crate) rules: Rules,
    pub(crate) plan: Plan,
    pub(crate) underlay: Underlay,
    pub(crate) renewal: Renewal,
    pub(crate) _watch: Watch,
}

impl Daemon<'_> {
    /// Does what happenings ask for until one of them is the end.
    fn follow(&mut self, happenings: &Receiver<Happening>) {
        loop {
            let first = happenings.recv_timeout(self.patience());
            let more = happenings.try_iter().take(BURST).map(Ok);
            let mut all = std::iter::once(first).chain(more);
            if !all.all(|happening| self.take(happening)) {
                break;
            }
            drop(all);
            self.tick();
        }
    }

    /// How long nothing needs to be done of our own accord.
    fn patience(&self) -> Duration {
        let dues = [
            self.hold.due(),
            self.sync.due(),
            self.rules.due(),
            self.underlay.due(),
            self.renewal.due,
        ];
        let due = dues.into_iter().flatten().min();
        let wait = due.map(|due| due.saturating_sub(since_boot()));
        wait.unwrap_or(LOOK_UP).min(LOOK_UP)
    }

    /// Takes in a happening; false for one that ends the daemon.
    fn take(&mut self, happening: Result<Happening, RecvTimeoutError>) -> bool {
        let now = since_boot();
        match happening {
            Ok(Happening::News(news)) => {
                self.hold.hear(&news, now);
                self.sync.hear(news, now);
            }
            Ok(Happening::Answered(answer)) => self.hold.answered(answer, now),
            Ok(Happening::HostChanged) => {
                self.underlay.doubt(now);
                self.sync.host_changed(now);
            }
            Ok(Happening::EngineFailed(why)) => {
                warn!("{why}, as when its device was deleted; starting the engine anew");
                self.renewal.ask(now);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Happening::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Does what is due.
    fn tick(&mut self) {
        if let Some(found) = self.underlay.tick(&self.plan.external, since_boot()) {
            self.move_to(found);
        }
        if self.renewal.is_due(since_boot()) {
            self.renew();
        }
        self.sync.settle(since_boot());
        if let Some(call) = self.hold.tick(since_boot()) {
            self.caller.ask(call);
        }
        self.rules.tick(since_boot());
    }

    /// Other nodes reach us another way from now on; the subnet stays.
    fn move_to(&mut self, found: ExternalInterface) {
        if found.same_way(&self.plan.external) {
            self.plan.external = found;
            return self.sync.screen(self.plan.screen());
        }
        info!(
            "the interface to other nodes is now {found}; it was {}",
            self.plan.external
        );
        let (moved, mtu) = (self.plan.moved_to(found), self.plan.mtu);
        let was = std::mem::replace(&mut self.plan, moved);
        if self.plan.lease.attrs != was.lease.attrs {
            self.hold
                .publish(self.plan.lease.attrs.clone(), since_boot());
        }
        self.renewal.ask(since_boot());
        if self.plan.mtu != mtu {
            self.plan.write_subnet_file(self.settings);
        }
    }

    /// Starts the data plane anew, by the plan as it is now.
    fn renew(&mut self) {
        self.account.close();
        self.sync.detach();
        let started = Backend::start(
            &self.plan,
            self.settings,
            self.account,
            self.happenings.clone(),
        );
        match started {
            Ok(backend) => {
                self.sync.attach(self.plan.screen(), backend);
                self.renewal.done(since_boot());
            }
            Err(error) => self.renewal.failed(&format!("{error:#}"), since_boot()),
        }
    }
}

/// When the data plane is to be started anew.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    due: Option<Duration>,
    last: Option<Duration>,
    failures: u32,
    told: String,
}

impl Renewal {
    /// An engine that fails again and again is started this often at most.
    const PAUSE: Duration = Duration::from_secs(1);
    /// The kernel lets go of sockets and devices a moment after they were closed.
    const QUICK: (u32, Duration) = (10, Duration::from_millis(50));

    fn ask(&mut self, now: Duration) {
        let soon = self.last.map_or(now, |last| now.max(last + Self::PAUSE));
        self.due.get_or_insert(soon);
    }

    fn is_due(&mut self, now: Duration) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    fn done(&mut self, now: Duration) {
        *self = Self {
            last: Some(now),
            ..Self::default()
        };
    }

    fn failed(&mut self, why: &str, now: Duration) {
        let (times, pause) = Self::QUICK;
        self.failures += 1;
        if self.failures <= times {
            self.due = Some(now + pause);
            return;
        }
        self.due = Some(now + Self::PAUSE);
        if self.told != why {
            warn!("no packets are carried: {why}. Trying on");
            why.clone_into(&mut self.told);
        }
    }
}
