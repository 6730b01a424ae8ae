//! The thread that follows etcd: a listing, then every change after it, each waited for by a question of its own.
//!
//! A question that waits says nothing, for hours where nothing changes. So every few seconds without a change the
//! server is asked for a sign of life beside it: that tells a server that stands still, a path that swallows everything
//! and a store that is another one by now. Whenever that fails, or more has changed than the server remembers, it
//! begins again with a listing; so no change can be missed and no stale index waited for.

use super::answer::{CLEARED, Change, Said};
use super::http::{Client, Error, Reply};
use super::{Inner, Listing, Place, QUORUM, Store, record};
use crate::registry::etcd::outage::Outage;
use crate::registry::etcd::pool::{Failure, Link};
use crate::registry::{News, Watch};
use hyper::Method;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How long nothing may be heard before a sign of life is asked for, and how long that is waited for.
const QUIET: Duration = Duration::from_secs(6);
const SIGN_LIMIT: Duration = Duration::from_secs(2);
/// Every so many signs must be agreed with by a majority, which costs the servers a write.
const AGREED: u32 = 10;

pub(super) struct Watcher {
    inner: Arc<Inner>,
    news: Box<dyn FnMut(News) + Send>,
    config: Option<String>,
    outage: Outage,
    signs: u32,
}

/// Why following ended.
enum End {
    /// There were more changes than the server remembers.
    Missed,
    /// The server is lost.
    Lost(String),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match Client::failure(&error) {
            Failure::Answer(why) | Failure::Trouble(why) => Self::Lost(why),
        }
    }
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
            signs: 0,
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
            if let End::Lost(why) = self.follow(&inner.store).await
                && self.outage.is_news(&why)
            {
                (self.news)(News::Lost(why));
            }
            self.outage.pause(begun.elapsed()).await;
        }
    }

    /// One listing and what follows it; returns what ended that.
    async fn follow(&mut self, store: &Store) -> End {
        let listing = match store.list().await {
            Ok(listing) => listing,
            Err(error) => return End::Lost(error.to_string()),
        };
        let turn = store.pool.turn();
        match self.listen(store, listing).await {
            End::Lost(why) => {
                store.pool.give_up(turn);
                End::Lost(store.pool.told(turn, &why))
            }
            End::Missed => End::Missed,
        }
    }

    async fn listen(&mut self, store: &Store, all: Listing) -> End {
        match self.hear(store, all).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Tells of the listing and of every change after it, once the server waits for those.
    async fn hear(&mut self, store: &Store, all: Listing) -> Result<std::convert::Infallible, End> {
        let client = store.pool.link().await?;
        let mut next = all.index + 1;
        let mut reply = wait_for(&client, store, next).await?;
        self.tell_all(all);
        loop {
            let change = match self.await_change(&client, store, next, reply).await? {
                Said::Done(change) => change,
                Said::Refused(refusal) if refusal.code == CLEARED => return Err(End::Missed),
                Said::Refused(refusal) => return Err(End::Lost(refusal.why)),
            };
            next = change.node.modified_index + 1;
            self.tell(store, &change)?;
            reply = wait_for(&client, store, next).await?;
        }
    }

    fn tell_all(&mut self, all: Listing) {
        if self.outage.ends() {
            (self.news)(News::Regained);
        }
        (self.news)(News::Snapshot(all.snapshot));
        // A config that is removed is no news: what was read before goes on.
        if let Some(text) = all.config {
            self.tell_config(text);
        }
    }

    /// Waits for the rest of an answer for as long as the server shows that it lives.
    async fn await_change(
        &mut self,
        client: &Client,
        store: &Store,
        next: u64,
        reply: Reply,
    ) -> Result<Said, End> {
        let mut said = pin!(reply.said());
        loop {
            match timeout(QUIET, &mut said).await {
                Ok(said) => return Ok(said?),
                Err(_) => self.ask_for_sign(client, store, next).await?,
            }
        }
    }

    async fn ask_for_sign(&mut self, client: &Client, store: &Store, next: u64) -> Result<(), End> {
        self.signs = self.signs.wrapping_add(1);
        let agreed = self.signs.is_multiple_of(AGREED);
        let target = store.target("config") + if agreed { QUORUM } else { "" };
        let sign = client.ask(Method::GET, &target, String::new());
        let sign = timeout(SIGN_LIMIT, sign).await;
        let (_, index) = sign.map_err(|_| End::Lost("no answer in time".to_owned()))??;
        match index < next - 1 {
            true => Err(End::Lost("the store is another one now".to_owned())),
            false => Ok(()),
        }
    }

    fn tell(&mut self, store: &Store, change: &Change) -> Result<(), End> {
        let (node, removed) = (&change.node, change.removes());
        match (store.place(&node.key), removed) {
            (Place::Config, false) => node
                .value
                .iter()
                .for_each(|text| self.tell_config(text.clone())),
            (Place::Record(name), false) => (self.news)(match record(name, node) {
                Ok(lease) => News::Put(lease),
                Err(bad) => News::Bad(bad),
            }),
            (Place::Record(name), true) => {
                let gone = name.parse().ok().map(News::Gone);
                gone.into_iter().for_each(&mut self.news);
            }
            // With the directory all that was in it is gone, and nothing is said of that.
            (Place::Above, true) => return Err(End::Missed),
            _ => {}
        }
        Ok(())
    }

    fn tell_config(&mut self, text: String) {
        if self.config.as_ref() != Some(&text) {
            self.config = Some(text.clone());
            (self.news)(News::Config(text));
        }
    }
}

/// Asks for the first change from an index on; the answer begins at once and ends with the change.
async fn wait_for(client: &Client, store: &Store, next: u64) -> Result<Reply, End> {
    let target = format!(
        "{}?wait=true&recursive=true&waitIndex={next}",
        store.target("")
    );
    let begun = client.begin(Method::GET, &target, String::new()).await;
    Ok(begun?)
}
