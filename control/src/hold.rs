//! Keeps this node's lease: renews it in time, takes it back when it vanished, and never fights over it.
//!
//! Pure but for its log lines: a [`Hold`] is told what the registry reports and what came of its calls, and says
//! which [`Call`] to make next. Whoever makes the calls may take all the time the registry takes.

use crate::lease::{Lease, LeaseAttrs};
use crate::registry::{News, Registry, RegistryError, Snapshot};
use crate::subnet_key::SubnetKey;
use std::time::Duration;
use tracing::{error, info, warn};

/// Pause between attempts while the registry does not answer.
const RETRY: Duration = Duration::from_secs(2);
/// A node that runs twice is told of at most this often; each telling renews the lease, for the other to notice.
const TWIN_QUIET: Duration = Duration::from_secs(600);

/// This node's lease and what is known of its record.
#[derive(Debug)]
pub struct Hold {
    /// As it shall stand in the registry.
    lease: Lease,
    /// What our record is known to say about us.
    written: LeaseAttrs,
    terms: Terms,
    state: State,
    /// When to act next, in time since boot.
    due: Option<Duration>,
    /// Whose record it was when the call under way began.
    asked: Option<State>,
    /// Whose record it was when a call began of which it is not known whether it did its work.
    unsure: Option<State>,
    /// What stands there must be read before anything is written.
    look: bool,
    failing: bool,
    /// Taken charge of a moment ago; no snapshot has been heard yet.
    fresh: bool,
    /// When our record was written last, as far as is known.
    written_at: Option<Duration>,
    twin_told: Option<Duration>,
}

/// How long leases last here.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// From one renewal on.
    pub lease_time: Duration,
    /// How long before the end it is renewed.
    pub margin: Duration,
}

/// Whose record stands under our subnet's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has looked since this daemon started.
    Unknown,
    Ours,
    Missing,
    /// Traffic goes on as it is; an operator must decide.
    Taken,
}

/// Something to ask of the registry.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Write these attributes over this version of our record.
    Renew(Lease, LeaseAttrs),
    /// Write our record where there is none.
    Create(SubnetKey, LeaseAttrs),
    /// Read what stands there.
    Look,
}

/// What came of a call.
#[derive(Debug)]
pub enum Answer {
    /// Our record stands.
    Written(Lease),
    /// What there is.
    Seen(Snapshot),
    /// Neither.
    Refused(RegistryError),
}

impl Call {
    /// Asks, for as long as the registry takes.
    pub fn make(&self, registry: &dyn Registry) -> Answer {
        let outcome = match self {
            Self::Renew(seen, attrs) => registry.renew(seen, attrs).map(Answer::Written),
            Self::Create(key, attrs) => registry.create(*key, attrs).map(Answer::Written),
            Self::Look => registry.snapshot().map(Answer::Seen),
        };
        outcome.unwrap_or_else(Answer::Refused)
    }
}

impl Hold {
    /// Takes charge of a lease acquired or renewed just now.
    pub fn new(lease: Lease, terms: Terms, now: Duration) -> Self {
        let said = lease.attrs.clone();
        let mut hold = Self::remembered(lease, said, terms);
        hold.state = State::Ours;
        hold.fresh = true;
        hold.schedule(now);
        hold
    }

    /// Takes charge of a lease that an earlier run held, whose record said this; whether it still stands the registry
    /// will tell.
    pub fn remembered(lease: Lease, written: LeaseAttrs, terms: Terms) -> Self {
        Self {
            written,
            lease,
            terms,
            state: State::Unknown,
            due: None,
            asked: None,
            unsure: None,
            look: false,
            failing: false,
            fresh: false,
            written_at: None,
            twin_told: None,
        }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// When our record was written last, as far as is known.
    pub fn written_at(&self) -> Option<Duration> {
        self.written_at
    }

    /// When our record ends unless it is renewed.
    pub fn end(&self) -> Option<Duration> {
        let written = self.written_at.filter(|_| !self.lease.reserved);
        written.map(|written| written + self.terms.lease_time)
    }

    /// Whose record stands, in a word.
    pub fn standing(&self) -> &'static str {
        match self.state {
            State::Unknown => "unconfirmed",
            State::Ours => "held",
            State::Missing => "missing",
            State::Taken => "taken",
        }
    }

    /// Whether our record stands in the registry, as far as is known.
    pub fn is_held(&self) -> bool {
        self.state == State::Ours
    }

    /// Whether another node has our subnet.
    pub fn is_taken(&self) -> bool {
        self.state == State::Taken
    }

    /// When [`Hold::tick`] has something to do, in time since boot.
    pub fn due(&self) -> Option<Duration> {
        self.due.filter(|_| self.asked.is_none())
    }

    /// From now on our record shall say this about us.
    pub fn publish(&mut self, attrs: LeaseAttrs, now: Duration) {
        self.lease.attrs = attrs;
        if matches!(self.state, State::Ours | State::Missing) {
            self.due = Some(now);
        }
    }

    /// Looks in a report for what concerns our record.
    pub fn hear(&mut self, news: &News, now: Duration) {
        let key = self.lease.key;
        match news {
            News::Put(lease) if lease.key == key => self.find(lease, true, now),
            News::Gone(gone) if *gone == key => self.vanished(now),
            News::Bad(record) if record.name == key.to_string() => {
                self.taken("something unreadable")
            }
            News::Snapshot(all) => {
                // Later ones come after a gap, in which the store itself may have become another.
                let no_gap = std::mem::take(&mut self.fresh);
                self.look_into(all, no_gap, now)
            }
            _ => {}
        }
    }

    /// The call that is due, if one is. No other becomes due before it is [answered](Self::answered).
    pub fn tick(&mut self, now: Duration) -> Option<Call> {
        self.due().filter(|due| *due <= now)?;
        self.due = None;
        let call = match self.state {
            _ if std::mem::take(&mut self.look) => Call::Look,
            State::Ours => Call::Renew(self.seen(), self.lease.attrs.clone()),
            State::Missing => Call::Create(self.lease.key, self.lease.attrs.clone()),
            State::Unknown | State::Taken => return None,
        };
        self.asked = Some(self.state);
        Some(call)
    }

    /// Takes in what came of the call.
    pub fn answered(&mut self, answer: Answer, now: Duration) {
        let asked = self.asked.take();
        if matches!(answer, Answer::Refused(_)) {
            self.unsure = asked;
        }
        match answer {
            Answer::Written(lease) if asked == Some(self.state) || self.has_heard_of(&lease) => {
                self.renewed(lease, asked, now)
            }
            // What was heard meanwhile may be older than our writing, or newer.
            Answer::Written(_) => self.look_again(now),
            Answer::Seen(all) => {
                self.failing = false;
                self.look_into(&all, false, now);
                self.tell_done();
                if self.state == State::Missing {
                    self.due = Some(now + RETRY);
                }
            }
            Answer::Refused(RegistryError::Conflict(_)) => self.look_again(now),
            Answer::Refused(error) => self.failed(&error, now),
        }
    }

    /// The registry may tell of our writing before it answers.
    fn has_heard_of(&self, lease: &Lease) -> bool {
        self.state == State::Ours && self.lease.revision == lease.revision
    }

    /// Our record in the version known.
    fn seen(&self) -> Lease {
        Lease {
            attrs: self.written.clone(),
            ..self.lease.clone()
        }
    }

    fn look_into(&mut self, all: &Snapshot, no_gap: bool, now: Duration) {
        let key = self.lease.key;
        match all.leases.iter().find(|lease| lease.key == key) {
            Some(lease) => self.find(lease, no_gap, now),
            None if all.bad.iter().any(|record| record.name == key.to_string()) => {
                self.taken("something unreadable")
            }
            None => self.vanished(now),
        }
    }

    /// Takes in our record as it stands; with `no_gap`, nothing has been missed since the version known.
    fn find(&mut self, lease: &Lease, no_gap: bool, now: Duration) {
        let twin = no_gap && self.suspect_twin(lease, now);
        self.found(lease, now);
        if twin {
            // Whoever it is then hears of us the same way.
            self.due = Some(now);
        }
    }

    fn found(&mut self, lease: &Lease, now: Duration) {
        let ours = [&self.lease.attrs, &self.written];
        if !ours.iter().any(|ours| lease.attrs.same_node(ours)) {
            return self.taken(&format!(
                "a record of another node: {}",
                lease.attrs.to_json()
            ));
        }
        let before = std::mem::replace(&mut self.state, State::Ours);
        let moved = (self.lease.revision, self.lease.reserved) != (lease.revision, lease.reserved);
        if lease.reserved != self.lease.reserved && self.asked.is_none() {
            info!("our lease is now {lease}");
        }
        if moved {
            (self.lease.revision, self.lease.reserved) = (lease.revision, lease.reserved);
            self.schedule(now);
        }
        if before == State::Unknown && !lease.reserved {
            // How much of its time is left is not known.
            self.due = Some(now);
        }
        self.restore(&lease.attrs, now);
        if moved {
            self.tell_done();
        }
    }

    /// What we say about ourselves is ours to say.
    fn restore(&mut self, found: &LeaseAttrs, now: Duration) {
        if *found != self.lease.attrs {
            if *found != self.written {
                warn!(
                    "our lease record was changed to {}; writing it anew",
                    found.to_json()
                );
            }
            self.due = Some(now);
        }
        self.written.clone_from(found);
    }

    /// Nobody but us renews our record, unless there are two of us. A call under way, or one that may have
    /// done its work without an answer, is us.
    fn suspect_twin(&mut self, lease: &Lease, now: Duration) -> bool {
        let settled = self.state == State::Ours && self.asked.is_none() && !self.failing;
        let renewed = lease.revision != self.lease.revision
            && lease.attrs == self.written
            && lease.reserved == self.lease.reserved;
        let told = self.twin_told.is_some_and(|at| now < at + TWIN_QUIET);
        if !settled || !renewed || told {
            return false;
        }
        error!(
            "our lease {} was renewed by somebody else: another node runs with our public address, {}. \
             Packets for both reach only one of them. Give each node its own with --public-ip or --iface, as on \
             copies of one machine or behind one NAT address, and restart it",
            lease.key,
            lease.attrs.to_json()
        );
        self.twin_told = Some(now);
        true
    }

    fn vanished(&mut self, now: Duration) {
        if self.state == State::Missing {
            return;
        }
        warn!(
            "our lease {} has vanished from the registry; taking it back",
            self.lease.key
        );
        self.state = State::Missing;
        self.due = Some(now);
    }

    fn taken(&mut self, by: &str) {
        if self.state == State::Taken {
            return;
        }
        error!(
            "our subnet {} is now held by {by}. Traffic goes on as it is; remove that record to get the subnet back, or restart this daemon to get another",
            self.lease.key
        );
        self.state = State::Taken;
        self.due = None;
    }

    /// Somebody was faster; who?
    fn look_again(&mut self, now: Duration) {
        self.look = true;
        self.due = Some(now);
    }

    /// A call whose answer was lost, or that met its own writing, has done its work where our record stands as it should.
    fn tell_done(&mut self) {
        let done = self.state == State::Ours && self.written == self.lease.attrs;
        if done && self.asked.is_none() && self.unsure.is_some() {
            self.tell_written(self.unsure);
        }
    }

    fn tell_written(&mut self, asked: Option<State>) {
        self.failing = false;
        self.unsure = None;
        if asked == Some(State::Missing) {
            info!("our lease {} is in the registry again", self.lease.key);
        } else {
            info!("lease {} renewed", self.lease.key);
        }
    }

    fn renewed(&mut self, lease: Lease, asked: Option<State>, now: Duration) {
        self.tell_written(asked);
        self.written.clone_from(&lease.attrs);
        (self.lease.revision, self.lease.reserved) = (lease.revision, lease.reserved);
        self.state = State::Ours;
        self.schedule(now);
        if self.written != self.lease.attrs {
            self.due = Some(now);
        }
    }

    fn failed(&mut self, error: &RegistryError, now: Duration) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!("cannot renew our lease: {error}; trying on");
        }
        self.due = Some(now + RETRY);
    }

    /// A reservation needs no renewing.
    fn schedule(&mut self, now: Duration) {
        let Terms { lease_time, margin } = self.terms;
        let wait = lease_time.saturating_sub(margin).max(lease_time / 2);
        self.due = (!self.lease.reserved).then_some(now + wait);
        self.written_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
