//! Shows each of two stores the records of the other, as copies, so that nodes of both form one network.
//!
//! A copy is a record with the bridge's name in it, and ends when the record it was made from does. What is to be done
//! follows from what stands in the stores alone (`decide`); why it is so is in decision 13.

mod decide;
mod shore;
#[cfg(test)]
mod tests;

use crate::clock::since_boot;
use crate::lease::{Lease, LeaseAttrs};
use crate::memory::told as span;
use crate::registry::{News, Record, RegistryError, Steward, Term, Watch};
use crate::subnet_key::SubnetKey;
use decide::{Step, Trouble, Way, decide};
use shore::{Heard, Shore};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// Changes come in groups, and a record that vanished may be on its way back.
const SETTLE: Duration = Duration::from_millis(200);
/// Between attempts at what could not be done.
const RETRY: Duration = Duration::from_secs(1);
/// Everything is looked at this often, whether or not something was told of it.
const LOOK_OVER: Duration = Duration::from_secs(600);
/// Stores count in seconds, and not all from the same moment on.
const TIME_SLACK: Duration = Duration::from_secs(3);

/// A store, and what it is called.
#[derive(Clone)]
pub struct Store {
    /// For people.
    pub name: String,
    /// Its records.
    pub registry: Arc<dyn Steward>,
}

/// What can happen to a bridge.
#[derive(Debug)]
pub enum Happening {
    /// One of the stores reports.
    News(usize, News),
    /// Somebody wants it gone.
    Stop,
}

/// A bridge at work.
pub struct Bridge<'a> {
    name: Box<str>,
    shores: [Shore; 2],
    /// Subnets that are to be looked at.
    dirty: BTreeSet<SubnetKey>,
    /// The last trouble told of each.
    troubles: BTreeMap<SubnetKey, String>,
    /// Why nothing is done at present.
    waiting: Option<String>,
    /// When to try again what could not be done.
    retry: Option<Duration>,
    look_over: Duration,
    tell: Box<dyn FnMut(&str) + 'a>,
}

impl<'a> Bridge<'a> {
    /// A bridge of this name between two stores, which tells each change in a line.
    pub fn new(name: &str, stores: [Store; 2], tell: impl FnMut(&str) + 'a) -> Self {
        Self {
            name: name.into(),
            shores: stores.map(|store| Shore::new(store, name)),
            dirty: BTreeSet::new(),
            troubles: BTreeMap::new(),
            waiting: None,
            retry: None,
            look_over: since_boot(),
            tell: Box::new(tell),
        }
    }

    /// Copies until told to stop; the copies stay, and end with the records they were made from.
    pub fn run(
        &mut self,
        happenings: &Sender<Happening>,
        inbox: &Receiver<Happening>,
    ) -> Result<(), RegistryError> {
        let _watches = self.watch(happenings)?;
        let [one, other] = self.names();
        self.say(&format!(
            "joining {one} and {other}, as bridge {}",
            self.name
        ));
        while self.listen(inbox).is_continue() {
            self.work();
        }
        let copies = self.shores.each_ref().map(|shore| shore.copies().count());
        self.say(&format!(
            "ending: {} copies in {one} and {} in {other} end with their records; --drain removes them at once",
            copies[0], copies[1]
        ));
        Ok(())
    }

    /// Removes all copies of a bridge of this name from both stores.
    pub fn drain(&mut self) -> Result<(), RegistryError> {
        for shore in &self.shores {
            let mut removed = 0;
            for lease in shore.store.registry.snapshot()?.leases {
                if lease.attrs.bridge.as_ref() == Some(&self.name) {
                    shore.store.registry.remove(&lease)?;
                    removed += 1;
                }
            }
            (self.tell)(&format!(
                "removed {removed} copies from {}",
                shore.store.name
            ));
        }
        Ok(())
    }

    fn watch(&self, happenings: &Sender<Happening>) -> Result<Vec<Watch>, RegistryError> {
        let watch = |(number, shore): (usize, &Shore)| {
            let sender = happenings.clone();
            let tell = move |news| drop(sender.send(Happening::News(number, news)));
            shore.store.registry.watch(Box::new(tell))
        };
        self.shores.iter().enumerate().map(watch).collect()
    }

    fn names(&self) -> [String; 2] {
        self.shores.each_ref().map(|shore| shore.store.name.clone())
    }

    fn say(&mut self, line: &str) {
        (self.tell)(line);
    }

    /// Waits for what happens and for what comes right behind it, or until something is due.
    fn listen(&mut self, inbox: &Receiver<Happening>) -> ControlFlow<()> {
        let due = self.retry.unwrap_or(self.look_over).min(self.look_over);
        let mut end = due;
        loop {
            let happening = match inbox.recv_timeout(end.saturating_sub(since_boot())) {
                Ok(happening) => happening,
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            };
            match happening {
                Happening::News(number, news) => self.hear(number, news),
                Happening::Stop => return ControlFlow::Break(()),
            }
            end = end.min(since_boot() + SETTLE);
        }
    }

    fn hear(&mut self, number: usize, news: News) {
        let name = self.shores[number].store.name.clone();
        match self.shores[number].hear(news) {
            Heard::Nothing => {}
            Heard::One(key) => drop(self.dirty.insert(key)),
            Heard::All => self.look_at_all(),
            Heard::Lost(why) => self.say(&format!(
                "lost {name}: {why}. Nothing is changed until it is back"
            )),
            Heard::Back => {
                self.say(&format!("{name} is back"));
                self.look_at_all();
            }
        }
    }

    fn look_at_all(&mut self) {
        let keys = self.shores.iter().flat_map(Shore::keys);
        self.dirty.extend(keys);
    }

    /// Does what is to be done, as far as everything is known.
    fn work(&mut self) {
        let now = since_boot();
        if self.look_over <= now {
            self.look_over = now + self.period();
            self.look_at_all();
        }
        self.retry = None;
        if self.dirty.is_empty() || !self.shores.iter().all(|shore| shore.in_touch) {
            return;
        }
        if let Err(why) = self.agree() {
            self.retry = Some(now + RETRY);
            return self.wait_for(why);
        }
        self.waiting = None;
        for key in std::mem::take(&mut self.dirty) {
            if let Err(error) = self.settle(key) {
                self.dirty.insert(key);
                self.retry = Some(now + RETRY);
                // A conflict is told of by the watch; what else there is, once.
                if !matches!(error, RegistryError::Conflict(_)) {
                    return self.wait_for(error.to_string());
                }
            }
        }
    }

    fn wait_for(&mut self, why: String) {
        if self.waiting.as_ref() != Some(&why) {
            self.say(&format!("waiting: {why}"));
            self.waiting = Some(why);
        }
    }

    /// Copies of reservations need to be renewed, and all others may have been changed unseen.
    fn period(&self) -> Duration {
        let times = self
            .shores
            .iter()
            .map(|shore| shore.store.registry.lease_time() / 4);
        times.chain([LOOK_OVER]).min().unwrap_or(LOOK_OVER)
    }

    /// Whether both stores are those of one network. A store that was emptied has no config, and removes nothing.
    fn agree(&self) -> Result<(), String> {
        let [one, other] = &self.shores;
        match one.agreement()?.difference(&other.agreement()?) {
            None => Ok(()),
            Some(what) => Err(format!(
                "the network configs of {} and {} differ in {what}; make them alike",
                one.store.name, other.store.name
            )),
        }
    }

    /// Does what is to be done about one subnet.
    fn settle(&mut self, key: SubnetKey) -> Result<(), RegistryError> {
        let step = decide(self.shores.each_ref().map(|shore| shore.standing(key)));
        if let Step::Tell(trouble) = step {
            let names = self.names();
            let told = tell_trouble(trouble, &names);
            self.trouble(key, told);
            return Ok(());
        }
        // What is done changes what is known, so it is done to copies of it.
        match step {
            Step::Copy(record, way) => self.copy(&record.clone(), way)?,
            Step::Compare(record, copy, way) => {
                self.compare(&record.clone(), &copy.clone(), way)?;
                self.troubles.remove(&key);
            }
            Step::Remove(copies) => self.remove(copies.map(Option::<&Lease>::cloned))?,
            Step::Nothing | Step::Tell(_) => drop(self.troubles.remove(&key)),
        }
        Ok(())
    }

    fn trouble(&mut self, key: SubnetKey, told: String) {
        if self.troubles.get(&key) != Some(&told) {
            self.say(&told);
            self.troubles.insert(key, told);
        }
    }

    /// Writes a copy of a record where there is nothing.
    fn copy(&mut self, record: &Lease, way: Way) -> Result<(), RegistryError> {
        let [from, to] = [&self.shores[way.from], &self.shores[way.to]];
        let (key, there) = (record.key, to.store.name.clone());
        if let Some(other) = to.in_the_way(key) {
            let told = format!(
                "conflict: {key} of {} shares addresses with {other} in {there}, so it is not copied; remove one of them",
                node(&record.attrs)
            );
            self.trouble(key, told);
            return Ok(());
        }
        let left = from.time_left(record)?;
        if left.is_zero() {
            // It is gone, and that is about to be told.
            return Ok(());
        }
        let written = self.write(record, None, way, left)?;
        self.troubles.remove(&key);
        self.say(&format!(
            "copied {key} of {} to {there}, for {}",
            node(&record.attrs),
            span(left)
        ));
        self.shores[way.to].put(written);
        Ok(())
    }

    /// Makes a copy like its record again.
    fn compare(&mut self, record: &Lease, copy: &Lease, way: Way) -> Result<(), RegistryError> {
        let [from, to] = [&self.shores[way.from], &self.shores[way.to]];
        let left = from.time_left(record)?;
        let same = copy.attrs == self.marked(record);
        let good = same && is_good(to.time_left(copy)?, left, record.reserved);
        if left.is_zero() || (good && !copy.reserved) {
            return Ok(());
        }
        let there = to.store.name.clone();
        let written = self.write(record, Some(copy), way, left)?;
        self.say(&format!(
            "{} the copy of {} of {} in {there}, for {}",
            if same { "renewed" } else { "changed" },
            record.key,
            node(&record.attrs),
            span(left)
        ));
        self.shores[way.to].put(written);
        Ok(())
    }

    fn marked(&self, record: &Lease) -> LeaseAttrs {
        LeaseAttrs {
            bridge: Some(self.name.clone()),
            ..record.attrs.clone()
        }
    }

    fn write(
        &self,
        record: &Lease,
        over: Option<&Lease>,
        way: Way,
        left: Duration,
    ) -> Result<Lease, RegistryError> {
        let copy = Record {
            key: record.key,
            attrs: &self.marked(record),
            term: Term::Leased(left),
        };
        self.shores[way.to].store.registry.write(copy, over)
    }

    /// Removes copies whose record is gone.
    fn remove(&mut self, copies: [Option<Lease>; 2]) -> Result<(), RegistryError> {
        for (number, copy) in copies.into_iter().enumerate() {
            let Some(copy) = copy else { continue };
            let shore = &mut self.shores[number];
            shore.store.registry.remove(&copy)?;
            shore.gone(copy.key);
            let told = format!(
                "removed the copy of {} of {} from {}: its record is gone",
                copy.key,
                node(&copy.attrs),
                shore.store.name
            );
            self.troubles.remove(&copy.key);
            self.say(&told);
        }
        Ok(())
    }
}

/// Whether a copy lasts as long as it should: not longer than its record, and not much shorter.
fn is_good(copy: Duration, record: Duration, reserved: bool) -> bool {
    let least = if reserved {
        record / 2
    } else {
        record / 10 * 9
    };
    copy <= record + TIME_SLACK && copy + TIME_SLACK >= least
}

/// Which node a record is of, for people.
fn node(attrs: &LeaseAttrs) -> String {
    let ipv4 = attrs.public_ip.map(|address| address.to_string());
    let ipv6 = attrs.public_ipv6.map(|address| address.to_string());
    ipv4.or(ipv6).unwrap_or_else(|| "no node".to_owned())
}

fn tell_trouble(trouble: Trouble<'_>, names: &[String; 2]) -> String {
    let [here, there] = names;
    match trouble {
        Trouble::Conflict([one, other]) => format!(
            "conflict: {} belongs to {} in {here} and to {} in {there}. Both stay as they are; stop one of the nodes, remove its record (flannelctl lease release) and start it again",
            one.key,
            node(&one.attrs),
            node(&other.attrs)
        ),
        Trouble::Differing([one, other]) => format!(
            "{} of {} is in both stores and says different things: {} in {here}, {} in {there}. Remove the one its node does not keep (flannelctl lease release)",
            one.key,
            node(&one.attrs),
            one.attrs.to_json(),
            other.attrs.to_json()
        ),
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl fmt::Debug for Bridge<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bridge")
            .field("name", &self.name)
            .field("stores", &self.names())
            .finish_non_exhaustive()
    }
}
