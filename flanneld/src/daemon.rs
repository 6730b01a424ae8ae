//! The daemon at work: waits for what happens, and keeps lease, peers and host as they should be.

use crate::account::Account;
use crate::backend::Backend;
use crate::boot::{boot, connect, open_registry};
use crate::caller::Caller;
use crate::confine::Denials;
use crate::contact::Contact;
use crate::hand_over::{Door, Successor};
use crate::listeners::Listeners;
use crate::operator::{self, Board, Way};
use crate::plan::Plan;
use crate::recall::Recall;
use crate::renewal::Renewal;
use crate::scribe::Scribe;
use crate::settings::Settings;
use crate::take_over::Predecessor;
use crate::underlay::Underlay;
use crate::upkeep::Rules;
use crate::vitals::Vitals;
use crate::{manager, signals};
use anyhow::{Context, Result};
use console::server::Socket;
use control::clock::since_boot;
use control::health::Health;
use control::hold::{Answer, Hold};
use control::host::external_interface::ExternalInterface;
use control::host::monitor;
use control::http::Gate;
use control::in_force::InForce;
use control::memory::Memory;
use control::registry::{News, Watch};
use control::sync::Sync;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tracing::{debug, info, warn};

/// What can happen to a running daemon.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The registry reports.
    News(News),
    /// The registry answers.
    Answered(Answer),
    /// Something on the host changed.
    HostChanged,
    /// Firewall rules of somebody were removed.
    RulesRemoved,
    /// Another daemon wants to take over.
    Successor(Successor),
    /// A worker ended, and why.
    EngineFailed(String),
    /// An operator wants to know where packets go.
    Asked(Sender<Vec<Way>>),
    /// Somebody wants the daemon gone.
    Stop,
}

/// Time since boot is looked at this often even if nothing happens.
const LOOK_UP: Duration = Duration::from_secs(60);
/// Reports taken in before the table is renewed: a burst costs few tables, and none waits long.
const BURST: usize = 1000;

/// What outlasts every start.
pub(crate) struct Desk<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) account: Account,
    pub(crate) health: Health,
    pub(crate) happenings: Sender<Happening>,
    pub(crate) board: Board,
    pub(crate) listeners: Listeners,
    /// Of what is answered over HTTP; a successor goes on with it.
    pub(crate) gate: Gate,
}

/// Runs until asked to stop, or until another daemon has taken over.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    engine::look_ahead(settings.engine.io);
    let (happenings, inbox) = channel();
    let mut predecessor = Predecessor::find(settings)?;
    let inherited = predecessor.as_mut().map(Predecessor::listeners);
    let mut inherited_door = predecessor.as_mut().and_then(Predecessor::door);
    let desk = Desk {
        settings,
        account: Account::default(),
        health: Health::default(),
        happenings,
        board: Board::default(),
        listeners: Listeners::open(&settings.addresses(), inherited.unwrap_or_default())?,
        gate: Gate::default(),
    };
    desk.listen()?;
    // Two daemons would answer by turns: a successor does when it is one.
    let succeeds = predecessor.is_some();
    let mut _console = (!succeeds).then(|| desk.answer()).transpose()?;
    let (mut recall, mut door) = (Recall::Allowed, None);
    while let Some(mut daemon) = boot(&desk, recall, &inbox, predecessor.take())? {
        if door.is_none() && succeeds {
            daemon.report();
            _console = Some(desk.answer()?);
        }
        door.get_or_insert_with(|| Door::open(&desk, inherited_door.take()));
        match daemon.follow(&inbox) {
            End::Asked => {
                // First the account, then the slow part: devices go away with the daemon.
                desk.say_goodbye();
                return Ok(());
            }
            End::Relieved => {
                desk.gate.close();
                desk.account.tell();
                door.into_iter().for_each(Door::leave);
                if settings.store.restarts_always() {
                    drop(daemon);
                    wait_for_the_end(&inbox);
                }
                return Ok(());
            }
            End::Outdated => desk.account.close(),
        }
        recall = Recall::Outdated;
    }
    desk.say_goodbye();
    Ok(())
}

/// Whoever would start this daemon again would have it take over in turn. It is ended when its successor is known to work.
fn wait_for_the_end(inbox: &Receiver<Happening>) {
    info!("another daemon does the work now; waiting to be ended");
    let mut happenings = inbox.iter();
    happenings.find(|happening| matches!(happening, Happening::Stop));
}

impl Desk<'_> {
    /// Takes calls from outside: signals, changes of the host.
    fn listen(&self) -> Result<()> {
        signals::listen(self.happenings.clone(), self.account.clone())
            .context("cannot listen for signals")?;
        let sender = self.happenings.clone();
        let report = move || drop(sender.send(Happening::HostChanged));
        monitor::watch(report).context("cannot watch the host's interfaces")?;
        let sender = self.happenings.clone();
        if let Err(error) = monitor::watch_rules(move || drop(sender.send(Happening::RulesRemoved)))
        {
            debug!(
                "cannot watch firewall rules, so they are only looked at from time to time: {error}"
            );
        }
        Ok(())
    }

    /// Answers probes and operators from now on.
    fn answer(&self) -> Result<Option<Socket>> {
        if let Some(address) = self.settings.probes {
            let listener = self.listeners.at(address)?;
            self.health
                .serve(listener, &self.gate)
                .context("cannot answer probes")?;
        }
        operator::listen(self)
    }

    fn say_goodbye(&self) {
        manager::stopping();
        self.account.tell();
    }
}

/// Why a daemon's work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Somebody wants it gone.
    Asked,
    /// Another daemon does its work.
    Relieved,
    /// It was started from memory, and its config is not that of the network any more.
    Outdated,
}

/// A daemon at work. Fields end in this order.
pub(crate) struct Daemon<'a> {
    pub(crate) desk: &'a Desk<'a>,
    pub(crate) caller: Caller,
    pub(crate) hold: Hold,
    pub(crate) sync: Sync<Backend>,
    pub(crate) rules: Rules,
    pub(crate) plan: Plan,
    pub(crate) config: InForce,
    /// Whether the config in force is remembered, and the registry has not told one yet.
    pub(crate) config_remembered: bool,
    pub(crate) contact: Contact,
    /// When this daemon got the lease, in time since boot.
    pub(crate) since: Duration,
    /// Whether containers know their subnet.
    pub(crate) subnet_told: bool,
    pub(crate) underlay: Underlay,
    pub(crate) renewal: Renewal,
    pub(crate) scribe: Scribe,
    pub(crate) vitals: Vitals,
    pub(crate) denials: Denials,
    pub(crate) watch: Watch,
}

/// What a start without the store, or another daemon, begins with.
pub(crate) fn known(
    settings: &Settings,
    hold: &Hold,
    sync: &Sync<Backend>,
    config: &InForce,
) -> Memory {
    let own = (hold.lease().key, &hold.lease().attrs);
    let others = sync.records().filter(|(key, _)| *key != own.0);
    let records = std::iter::once(own).chain(others);
    Memory {
        store: settings.store.name(),
        config: config.text().to_owned(),
        own: own.0,
        records: records.map(|(key, attrs)| (key, attrs.clone())).collect(),
    }
}

impl Daemon<'_> {
    /// Does what happenings ask for until one of them is the end.
    fn follow(&mut self, inbox: &Receiver<Happening>) -> End {
        loop {
            self.tick();
            let first = inbox.recv_timeout(self.patience());
            let more = inbox.try_iter().take(BURST).map(Ok);
            let mut all = std::iter::once(first).chain(more);
            if let Some(end) = all.find_map(|happening| self.take(happening)) {
                return end;
            }
        }
    }

    /// How long nothing needs to be done of our own accord.
    fn patience(&self) -> Duration {
        let dues = [
            self.hold.due(),
            self.sync.due(),
            self.rules.due(),
            self.underlay.due(),
            self.renewal.due(),
            self.scribe.due(),
            Some(self.vitals.due()),
        ];
        let due = dues.into_iter().flatten().min();
        let wait = due.map(|due| due.saturating_sub(since_boot()));
        wait.unwrap_or(LOOK_UP).min(LOOK_UP)
    }

    /// Takes in a happening; one that ends the daemon says how.
    fn take(&mut self, happening: Result<Happening, RecvTimeoutError>) -> Option<End> {
        let now = since_boot();
        match happening {
            Ok(Happening::News(news)) => return self.hear(news),
            Ok(Happening::Answered(answer)) => self.hold.answered(answer, now),
            Ok(Happening::HostChanged) => {
                self.underlay.doubt(now);
                self.sync.host_changed(now);
            }
            Ok(Happening::RulesRemoved) => self.rules.doubt(now),
            Ok(Happening::Successor(successor)) => {
                return self.hand_over(&successor).then_some(End::Relieved);
            }
            Ok(Happening::EngineFailed(why)) => {
                warn!("{why}, as when its device was deleted; starting the engine anew");
                self.renewal.ask(now);
            }
            // Whoever asked may have gone away meanwhile.
            Ok(Happening::Asked(asker)) => drop(asker.send(self.sync.routes())),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Happening::Stop) | Err(RecvTimeoutError::Disconnected) => return Some(End::Asked),
        }
        None
    }

    /// Takes in what the registry reports.
    fn hear(&mut self, news: News) -> Option<End> {
        let now = since_boot();
        match &news {
            News::Config(text) => {
                let other = self.config.hear(text);
                if std::mem::take(&mut self.config_remembered) && other {
                    info!("starting over with the network config as it is now");
                    return Some(End::Outdated);
                }
            }
            News::Lost(why) => {
                self.contact.lost(why, now);
                self.scribe.out_of_touch();
            }
            News::Snapshot(_) => {
                self.contact.found(now);
                self.scribe.in_touch(now);
            }
            _ => {}
        }
        self.hold.hear(&news, now);
        self.sync.hear(news, now);
        None
    }

    /// Does what is due.
    fn tick(&mut self) {
        if let Some(found) = self.underlay.tick(&self.plan.external, since_boot()) {
            self.move_to(found);
        }
        if self.renewal.begin(since_boot()) {
            self.renew();
        }
        if self.sync.settle(since_boot()) {
            self.scribe.changed(since_boot());
        }
        if let Some(call) = self.hold.tick(since_boot()) {
            self.caller.ask(call);
        }
        self.rules.tick(since_boot());
        self.write_down();
        self.report();
    }

    /// What is known now is what a start without the store begins with.
    fn write_down(&mut self) {
        let Self {
            desk,
            hold,
            sync,
            config,
            scribe,
            ..
        } = self;
        scribe.tick(since_boot(), || known(desk.settings, hold, sync, config));
    }

    /// Tells those who watch over the daemon.
    fn report(&mut self) {
        let moves = !self.renewal.is_failing() || self.underlay.is_missing();
        self.denials.tick();
        let engine = self.desk.account.engine();
        self.vitals.tick(engine, moves, since_boot());
        let lease = match self.hold.is_taken() {
            true => "held by another node",
            false => "held",
        };
        let store = self.contact.told();
        let status = format!(
            "{} {lease}, {}, {} peer subnets, {store}",
            self.plan.lease.key,
            self.plan.network.backend.name(),
            self.sync.tally().routes
        );
        let ready = self.subnet_told && !self.hold.is_taken() && self.sync.has_table();
        self.vitals.tell(ready, status);
        self.desk.board.works(self.note());
    }

    /// Other nodes reach us another way from now on; the subnet stays.
    fn move_to(&mut self, found: ExternalInterface) {
        if found.same_way(&self.plan.external) {
            // Only the networks around it are others, as when its link-local address has become valid.
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
        if self.plan.external.addresses != was.external.addresses {
            self.reconnect();
        }
        self.renewal.ask(since_boot());
        if self.plan.mtu != mtu {
            self.subnet_told = self.plan.write_subnet_file(self.desk.settings);
        }
    }

    /// Connections from an address that is gone answer no more; new ones need not wait until that is noticed.
    fn reconnect(&mut self) {
        let connected =
            open_registry(self.desk.settings).and_then(|registry| connect(self.desk, registry));
        match connected {
            Ok((watch, caller)) => (self.watch, self.caller) = (watch, caller),
            Err(error) => warn!("keeping the old connections to the registry: {error:#}"),
        }
    }

    /// Starts the data plane anew, by the plan as it is now.
    fn renew(&mut self) {
        self.desk.account.close();
        self.sync.detach();
        match Backend::start(&self.plan, self.desk, None) {
            Ok(backend) => {
                self.sync.attach(self.plan.screen(), backend);
                self.renewal.done(since_boot());
            }
            Err(error) => self.renewal.failed(&format!("{error:#}"), since_boot()),
        }
    }
}
