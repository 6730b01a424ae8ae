//! Turns what the registry reports into the data plane's table: a snapshot, then events, a snapshot again when in doubt.

use crate::book::LeaseBook;
use crate::network::NetworkConfig;
use crate::registry::{BadRecord, News};
use crate::screen::{Refusal, Screen};
use crate::sink::TableSink;
use crate::subnet_key::SubnetKey;
use std::collections::BTreeSet;
use tracing::{info, warn};

/// Follows the registry and keeps a table.
#[derive(Debug)]
pub struct Sync<S> {
    book: LeaseBook,
    screen: Screen,
    sink: S,
    /// The table may be out of date.
    stale: bool,
    told: Told,
}

/// What has been logged already: each fault costs one line, not one per event.
#[derive(Debug, Default)]
struct Told {
    bad: BTreeSet<BadRecord>,
    refused: BTreeSet<(SubnetKey, Refusal)>,
}

/// How much of the registry is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that can be read.
    pub records: usize,
    /// Records that cannot.
    pub bad: usize,
    /// Records that may not become routes.
    pub refused: usize,
}

impl<S: TableSink> Sync<S> {
    /// Starts with an empty table.
    pub fn new(screen: Screen, sink: S) -> Self {
        Self {
            book: LeaseBook::default(),
            screen,
            sink,
            stale: false,
            told: Told::default(),
        }
    }

    /// Takes in one report; the table follows at the next [`Sync::settle`], so that a burst costs one table.
    pub fn hear(&mut self, news: News) {
        match &news {
            News::Lost(why) => warn!("registry lost: {why}. Peers stay as they are"),
            News::Regained => info!("registry is back"),
            News::Config(text) => self.compare_config(text),
            _ => {}
        }
        self.stale |= self.book.apply(news);
        self.tell_bad();
    }

    /// Hands the data plane a new table if anything changed.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let peers = self.book.peers(&self.screen);
        for (key, why) in peers.refused.difference(&self.told.refused) {
            warn!("lease {key} is not used: {why}");
        }
        info!("{} peer subnets", peers.routes.len());
        self.sink.replace(&peers.routes);
        self.told.refused = peers.refused;
    }

    /// Counts for a status line.
    pub fn tally(&self) -> Tally {
        Tally {
            records: self.book.len(),
            bad: self.book.bad().len(),
            refused: self.told.refused.len(),
        }
    }

    fn tell_bad(&mut self) {
        if *self.book.bad() == self.told.bad {
            return;
        }
        for record in self.book.bad().difference(&self.told.bad) {
            warn!("{record}");
        }
        self.told.bad.clone_from(self.book.bad());
    }

    fn compare_config(&self, text: &str) {
        match NetworkConfig::parse(text) {
            Ok(network) if network == self.screen.network => {}
            Ok(_) => warn!(
                "the network config has changed; it takes effect when this daemon is restarted"
            ),
            Err(error) => warn!(
                "the network config was changed and cannot be used: {error}. Running on with the old one"
            ),
        }
    }
}
