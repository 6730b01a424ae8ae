//! The thread that follows etcd: a listing, then every change after it. Whenever the stream ends, for whatever
//! reason (server gone, leader lost, history compacted, store wiped), it begins again with a listing; so no
//! change can be missed and no stale revision waited for.

use super::link::{MESSAGE_MAX, describe};
use super::listing::{Listing, too_large};
use super::{Inner, Store, text};
use crate::registry::etcd::outage::Outage;
use crate::registry::{News, Watch};
use etcd_client::{Client, Error, EventType, KeyValue, WatchOptions, WatchResponse, WatchStream};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

const BEGIN_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Watcher {
    inner: Arc<Inner>,
    news: Box<dyn FnMut(News) + Send>,
    config: Option<String>,
    outage: Outage,
    /// The last stream ended at an event too large to be received.
    choked: bool,
}

impl Watcher {
    /// Starts the thread.
    pub(super) fn start(inner: Arc<Inner>, news: Box<dyn FnMut(News) + Send>) -> io::Result<Watch> {
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let mut watcher = Self {
            inner: Arc::clone(&inner),
            news,
            config: None,
            outage: Outage::none(),
            choked: false,
        };
        let run = move || {
            inner.runtime.block_on(async {
                tokio::select! {
                    () = stopped.notified() => {}
                    () = watcher.run() => {}
                }
            });
        };
        let thread = thread::Builder::new().name("etcd".to_owned()).spawn(run)?;
        Ok(Watch::new(thread, move || stop.notify_one()))
    }

    async fn run(&mut self) {
        let inner = Arc::clone(&self.inner);
        loop {
            let begun = Instant::now();
            let why = self.follow(&inner.store).await;
            if self.outage.is_news(&why) {
                (self.news)(News::Lost(why));
            }
            self.outage.pause(begun.elapsed()).await;
        }
    }

    /// One listing and its stream, to the end of it; returns what ended it.
    async fn follow(&mut self, store: &Store) -> String {
        let listing = match store.list().await {
            Ok(listing) => listing,
            Err(error) => return error.to_string(),
        };
        let turn = store.pool.turn();
        let why = match begin(store, listing.revision, self.choked).await {
            Ok(stream) => self.listen(store, listing, stream).await,
            Err(why) => why,
        };
        self.choked = too_large(&why);
        store.pool.give_up(turn);
        store.pool.told(turn, &why)
    }

    /// Tells of the listing and of every change after it; returns what ended the stream.
    async fn listen(&mut self, store: &Store, all: Listing, mut stream: WatchStream) -> String {
        if self.outage.ends() {
            (self.news)(News::Regained);
        }
        (self.news)(News::Snapshot(all.snapshot));
        // A config that is removed is no news: what was read before goes on.
        if let Some(text) = all.config {
            self.tell_config(text);
        }
        loop {
            match next(&mut stream).await {
                Ok(response) => self.tell(store, &response, all.revision),
                Err(why) => return why,
            }
        }
    }

    /// Tells of every change after a revision.
    fn tell(&mut self, store: &Store, response: &WatchResponse, known: i64) {
        for event in response.events() {
            if let Some(changed) = event.kv().filter(|kv| kv.mod_revision() > known) {
                self.tell_change(store, changed, event.event_type() == EventType::Put);
            }
        }
    }

    fn tell_change(&mut self, store: &Store, changed: &KeyValue, put: bool) {
        if changed.key() == store.config_key().as_bytes() {
            if put {
                self.tell_config(text(changed.value()));
            }
        } else if changed.key().starts_with(store.subnets().as_bytes()) {
            let news = match (put, store.record(changed)) {
                (true, Ok(lease)) => Some(News::Put(lease)),
                (true, Err(bad)) => Some(News::Bad(bad)),
                (false, _) => store.name(changed.key()).parse().ok().map(News::Gone),
            };
            news.into_iter().for_each(&mut self.news);
        }
    }

    fn tell_config(&mut self, text: String) {
        if self.config.as_ref() != Some(&text) {
            self.config = Some(text.clone());
            (self.news)(News::Config(text));
        }
    }
}

/// Asks for everything below the prefix that came after a listing, and waits for the server to agree.
///
/// The stream begins with what the listing has already. One revision later, and a removal could be missed: etcd before
/// 3.5.18 forgets one in the very revision it compacts to, and cancels only a watch that asks for what was before. Yet
/// what has `choked` the last stream would end this one, too.
pub(super) async fn begin(store: &Store, listed: i64, choked: bool) -> Result<WatchStream, String> {
    let open = async {
        let client: Client = store.pool.link().await.map_err(told)?;
        let mut client = client.watch_client().max_decoding_message_size(MESSAGE_MAX);
        // In fragments: what piled up while nobody read may be more than fits in one message.
        let options = WatchOptions::new()
            .with_prefix()
            .with_fragment()
            .with_start_revision(listed + i64::from(choked));
        let all = format!("{}/", store.prefix);
        let mut stream = client.watch(all, Some(options)).await.map_err(told)?;
        next(&mut stream).await.map(|_| stream)
    };
    let opened = timeout(BEGIN_LIMIT, open).await;
    opened.map_err(|_| "no answer in time".to_owned())?
}

fn told(error: Error) -> String {
    describe(&error)
}

/// The next response; an error says why there will be none.
pub(super) async fn next(stream: &mut WatchStream) -> Result<WatchResponse, String> {
    let response = stream.message().await.map_err(|error| describe(&error))?;
    let response = response.ok_or_else(|| "the server ended the watch".to_owned())?;
    // A cancelled watch stays open and silent.
    if !response.canceled() {
        return Ok(response);
    }
    match (response.compact_revision(), response.cancel_reason()) {
        (0, "") => Err("the server cancelled the watch".to_owned()),
        (0, reason) => Err(reason.to_owned()),
        (compacted, _) => Err(format!("history before revision {compacted} is compacted")),
    }
}
