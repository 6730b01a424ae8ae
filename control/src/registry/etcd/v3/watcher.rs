//! Following a store by version 3: one stream of every change below the prefix.

use super::link::{MESSAGE_MAX, describe};
use super::{Store, text};
use crate::registry::News;
use crate::registry::etcd::speech::Listing;
use crate::registry::etcd::watcher::{End, Teller};
use etcd_client::{Client, Error, EventType, KeyValue, WatchOptions, WatchResponse, WatchStream};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

const BEGIN_LIMIT: Duration = Duration::from_secs(5);

impl Store {
    /// Tells of the listing and of every change after it; returns what ended the stream.
    pub(super) async fn hear(
        &self,
        all: Listing,
        teller: &mut Teller,
        choked: bool,
    ) -> Result<Infallible, End> {
        let listed = all.revision as i64;
        let mut heard = listed;
        let mut stream = begin(self, listed, choked).await?;
        teller.tell_all(all);
        loop {
            for event in next(&mut stream).await?.events() {
                let Some(changed) = event.kv() else { continue };
                heard = onward(heard, changed)?;
                if heard > listed {
                    self.tell_change(changed, event.event_type() == EventType::Put, teller);
                }
            }
        }
    }

    fn tell_change(&self, changed: &KeyValue, put: bool, teller: &mut Teller) {
        if changed.key() == self.config_key().as_bytes() {
            if put {
                teller.tell_config(text(changed.value()));
            }
        } else if changed.key().starts_with(self.subnets().as_bytes()) {
            let news = match (put, self.record(changed)) {
                (true, Ok(lease)) => Some(News::Put(lease)),
                (true, Err(bad)) => Some(News::Bad(bad)),
                (false, _) => self.name(changed.key()).parse().ok().map(News::Gone),
            };
            news.into_iter().for_each(|news| teller.tell(news));
        }
    }
}

/// How far history has come with a change. Servers have told of the past as if it were news: where one goes back, nothing
/// it said is believed before it has listed all there is.
fn onward(heard: i64, changed: &KeyValue) -> Result<i64, End> {
    let revision = changed.mod_revision();
    if revision < heard {
        let why = format!("the server tells of revision {revision} after {heard}");
        return Err(End::Lost(why));
    }
    Ok(revision)
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Lost(describe(&error))
    }
}

/// Asks for everything below the prefix that came after a listing, and waits for the server to agree.
///
/// The stream begins with what the listing has already. One revision later, and a removal could be missed: etcd before
/// 3.5.18 forgets one in the very revision it compacts to, and cancels only a watch that asks for what was before. Yet
/// what has `choked` the last stream would end this one, too.
pub(super) async fn begin(store: &Store, listed: i64, choked: bool) -> Result<WatchStream, End> {
    let open = async {
        let client: Client = store.pool.link().await?;
        let mut client = client.watch_client().max_decoding_message_size(MESSAGE_MAX);
        // In fragments: what piled up while nobody read may be more than fits in one message.
        let options = WatchOptions::new()
            .with_prefix()
            .with_fragment()
            .with_start_revision(listed + i64::from(choked));
        let all = format!("{}/", store.prefix);
        let mut stream = client.watch(all, Some(options)).await?;
        next(&mut stream).await.map(|_| stream)
    };
    let opened = timeout(BEGIN_LIMIT, open).await;
    opened.map_err(|_| End::Lost("no answer in time".to_owned()))?
}

/// The next response; an error says why there will be none.
pub(super) async fn next(stream: &mut WatchStream) -> Result<WatchResponse, End> {
    let ended = || End::Lost("the server ended the watch".to_owned());
    let response = stream.message().await?.ok_or_else(ended)?;
    // A cancelled watch stays open and silent.
    if !response.canceled() {
        return Ok(response);
    }
    Err(
        match (response.compact_revision(), response.cancel_reason()) {
            (0, "") => End::Lost("the server cancelled the watch".to_owned()),
            (0, reason) => End::Lost(reason.to_owned()),
            _ => End::Missed,
        },
    )
}
