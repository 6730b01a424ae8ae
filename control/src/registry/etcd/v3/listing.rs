//! All a network has in etcd, at one revision: the config and every record, in as few answers as fit.
//!
//! ```text
//! PREFIX/config        first,
//! PREFIX/subnets/...   last: one range of keys from the one to the end of the others
//! ```
//!
//! An answer's size is bounded, whatever others wrote: what does not fit is asked for in smaller parts.

use super::link::{MESSAGE_MAX, describe};
use super::{Store, text};
use crate::registry::etcd::speech::Listing;
use crate::registry::{BadRecord, RegistryError, Snapshot};
use etcd_client::{Client, Error, GetOptions, GetResponse, KeyValue};

/// Keys asked for at once: all of a large network, in half of the largest answer taken.
pub(super) const PAGE: i64 = 16_000;

/// What to ask for next.
struct Ask {
    from: Vec<u8>,
    /// How many keys; none means the name alone of the next one.
    limit: i64,
    revision: i64,
}

/// What came of it.
enum Answer {
    Page(GetResponse),
    TooLarge,
}

impl Store {
    /// The config and every record, however many answers that takes.
    pub(super) async fn list_all(&self) -> Result<Listing, RegistryError> {
        let mut listing = Listing::default();
        let mut ask = Ask {
            from: self.config_key().into_bytes(),
            limit: PAGE,
            revision: 0,
        };
        loop {
            let answer = self.pool.call(async |client| self.ask(client, &ask).await);
            let page = match answer.await? {
                Answer::Page(page) => page,
                Answer::TooLarge => {
                    ask.limit /= 2;
                    continue;
                }
            };
            ask.revision = page.header().map_or(0, |header| header.revision());
            listing.revision = ask.revision as u64;
            self.take(&page, ask.limit == 0, &mut listing);
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => ask.from = [last.key(), &[0]].concat(),
                None => return Ok(listing),
            }
            ask.limit = (ask.limit * 2).clamp(1, PAGE);
        }
    }

    async fn ask(&self, client: Client, ask: &Ask) -> Result<Answer, Error> {
        let mut options = GetOptions::new()
            .with_range(self.end())
            .with_limit(ask.limit.max(1))
            .with_revision(ask.revision);
        if ask.limit == 0 {
            options = options.with_keys_only();
        }
        let mut client = client.kv_client().max_decoding_message_size(MESSAGE_MAX);
        match client.get(&*ask.from, Some(options)).await {
            Err(error) if ask.limit > 0 && too_large(&describe(&error)) => Ok(Answer::TooLarge),
            answer => answer.map(Answer::Page),
        }
    }

    /// The first name after those of all records.
    fn end(&self) -> Vec<u8> {
        let mut end = self.subnets().into_bytes();
        if let Some(slash) = end.last_mut() {
            *slash += 1;
        }
        end
    }

    fn take(&self, page: &GetResponse, names_only: bool, listing: &mut Listing) {
        for found in page.kvs() {
            if found.key() == self.config_key().as_bytes() {
                listing.config = Some(text(found.value()));
            } else if found.key().starts_with(self.subnets().as_bytes()) {
                self.sort(found, names_only, &mut listing.snapshot);
            }
        }
    }

    fn sort(&self, found: &KeyValue, names_only: bool, snapshot: &mut Snapshot) {
        let record = if names_only {
            let name = self.name(found.key());
            Err(BadRecord::new(&name, "it is too large to be fetched"))
        } else {
            self.record(found)
        };
        match record {
            Ok(lease) => snapshot.leases.push(lease),
            Err(bad) => drop(snapshot.bad.insert(bad)),
        }
    }
}

/// Whether an answer was refused for its size alone. The library tells that by words only.
pub(super) fn too_large(why: &str) -> bool {
    why.contains("message length too large")
}
