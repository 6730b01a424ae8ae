//! The thread that follows the nodes: a list, then every change after it.
//!
//! A stream that ends is taken up where it ended, as bookmarks tell; the list is made anew only where the server does not
//! remember that far back (410), and seldom: lists of thousands of nodes by thousands of nodes bring servers down.

use super::node::Node;
use super::roll::Roll;
use super::server::Fault;
use super::store::{Inner, Store};
use crate::random;
use crate::registry::outage::Outage;
use crate::registry::{News, Snapshot, Watch};
use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Client, Error};
use serde::Deserialize;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Nodes asked for at once; each is some ten kilobytes on the way here.
const PAGE: u32 = 500;
/// A list whose pages run out of time under way is begun again this often.
const LISTS: u32 = 3;
/// Between two lists.
const LIST_PAUSE: Duration = Duration::from_secs(5);
/// Between attempts while the server is away, at most.
const OUTAGE_PAUSE_MAX: Duration = Duration::from_millis(1300);
/// How long the server is asked to keep a stream: servers do not like all to end at once.
const STREAM_SECONDS: std::ops::Range<u32> = 240..300;
/// Servers send a bookmark each minute; one that says nothing for longer is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(90);
/// Between attempts to tell the node's condition.
const CONDITION_PAUSE: Duration = Duration::from_secs(10);

/// All nodes at one moment.
pub(super) struct Listing {
    pub(super) snapshot: Snapshot,
    roll: Roll,
    since: String,
    own: Option<Node>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    metadata: PageMetadata,
    items: Vec<Node>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

pub(super) struct Watcher {
    inner: Arc<Inner>,
    news: Box<dyn FnMut(News) + Send>,
    config: Option<String>,
    outage: Outage,
    roll: Roll,
    /// Up to where changes are known.
    since: Option<String>,
    listed: Option<Instant>,
    condition: Condition,
}

/// What the cluster is told about this node.
struct Condition {
    /// When to tell it next.
    due: Option<Instant>,
    /// Which object was told, as its name may become another's.
    told: Option<String>,
    failing: bool,
}

/// Every node, in as many pages as it takes.
pub(super) async fn list(store: &Store) -> Result<Listing, Fault> {
    let mut tries = 1;
    loop {
        match list_once(store).await {
            Err(Fault::Outdated) if tries < LISTS => tries += 1,
            outcome => return outcome,
        }
    }
}

async fn list_once(store: &Store) -> Result<Listing, Fault> {
    let name = store.name().await?;
    let (mut roll, mut own) = (Roll::new(name.clone()), None);
    let mut params = ListParams {
        limit: Some(PAGE),
        field_selector: store.selector().await?,
        ..ListParams::default()
    };
    loop {
        let page: Page = store.server.call(&store.list_question(&params)?).await?;
        for node in page.items {
            roll.take(&node.metadata.name, store.annotations.record(&node));
            if node.metadata.name == name {
                own = Some(node);
            }
        }
        if page.metadata.next.is_empty() {
            return Ok(Listing {
                snapshot: roll.snapshot(),
                roll,
                since: page.metadata.resource_version,
                own,
            });
        }
        params.continue_token = Some(page.metadata.next);
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
            outage: Outage::none(OUTAGE_PAUSE_MAX),
            roll: Roll::default(),
            since: None,
            listed: None,
            condition: Condition::new(),
        };
        let run = move || {
            inner.runtime.block_on(async {
                tokio::select! {
                    () = stopped.notified() => {}
                    () = watcher.run() => {}
                }
            });
        };
        let thread = thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(run)?;
        Ok(Watch::new(thread, move || stop.notify_one()))
    }

    async fn run(&mut self) {
        let inner = Arc::clone(&self.inner);
        let store = &inner.store;
        loop {
            self.tell_config(store);
            let begun = Instant::now();
            let outcome = match self.since.clone() {
                None => self.begin(store).await,
                Some(since) => self.follow(store, since).await,
            };
            match outcome {
                Ok(()) => {}
                Err(Fault::Outdated) => self.since = None,
                Err(fault) if self.outage.is_news(fault.told()) => {
                    (self.news)(News::Lost(fault.told().to_owned()));
                }
                Err(_) => {}
            }
            if self.listed.is_none_or(|listed| listed < begun) {
                let pause = self.outage.pause(begun.elapsed());
                sleep(pause.max(store.server.pause())).await;
            }
        }
    }

    fn tell(&mut self, news: impl IntoIterator<Item = News>) {
        news.into_iter().for_each(&mut self.news);
    }

    /// A config that cannot be read is no news: what was read before goes on.
    fn tell_config(&mut self, store: &Store) {
        let text = store
            .config()
            .filter(|text| self.config.as_ref() != Some(text));
        if let Some(text) = text {
            self.config = Some(text.clone());
            (self.news)(News::Config(text));
        }
    }

    /// Lists all nodes.
    async fn begin(&mut self, store: &Store) -> Result<(), Fault> {
        if let Some(listed) = self.listed {
            sleep(LIST_PAUSE.saturating_sub(listed.elapsed())).await;
        }
        let all = list(store).await?;
        if self.outage.ends() {
            (self.news)(News::Regained);
        }
        (self.news)(News::Snapshot(all.snapshot));
        self.listed = Some(Instant::now());
        (self.roll, self.since) = (all.roll, Some(all.since));
        if let Some(own) = all.own.filter(|_| store.tell_condition) {
            self.condition.look(&own);
        }
        Ok(())
    }

    /// Follows changes to the end of the stream.
    async fn follow(&mut self, store: &Store, since: String) -> Result<(), Fault> {
        let params = WatchParams {
            timeout: Some(random::generator().u32(STREAM_SECONDS)),
            field_selector: store.selector().await?,
            ..WatchParams::default()
        };
        let question = store.watch_question(&params, &since)?;
        let open = async |client: Client| client.request_events::<Node>(question.clone()).await;
        let opened = store.server.attempt(&open).await;
        let stream = opened.map_err(|error| {
            store.server.forget();
            store.server.fault(&error)
        })?;
        let mut stream = pin!(stream);
        if self.outage.ends() {
            self.tell([News::Regained, News::Snapshot(self.roll.snapshot())]);
        }
        loop {
            self.condition.tell(store).await;
            match timeout(self.condition.patience(), stream.try_next()).await {
                Ok(Ok(Some(event))) => self.take(store, event)?,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(store.server.fault(&error)),
                Err(_) if self.condition.due.is_some() => {}
                Err(_) => drop(store.own().await?),
            }
        }
    }

    fn take(&mut self, store: &Store, event: WatchEvent<Node>) -> Result<(), Fault> {
        let (node, there) = match event {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => (node, true),
            WatchEvent::Deleted(node) => (node, false),
            WatchEvent::Bookmark(mark) => {
                self.since = Some(mark.metadata.resource_version);
                return Ok(());
            }
            WatchEvent::Error(status) => return Err(store.server.fault(&Error::Api(status))),
        };
        let told = there.then(|| store.annotations.record(&node)).flatten();
        let news = self.roll.take(&node.metadata.name, told);
        self.tell(news);
        if there && store.tell_condition && self.roll.is_own(&node.metadata.name) {
            self.condition.look(&node);
        }
        self.since = Some(node.metadata.resource_version);
        Ok(())
    }
}

impl Condition {
    fn new() -> Self {
        Self {
            due: None,
            told: None,
            failing: false,
        }
    }

    /// Looks at what the cluster says about this node; what was told once is told again only where it was undone.
    fn look(&mut self, own: &Node) {
        let found = own.network_condition();
        let stands = found.is_some_and(|found| found.status == "False");
        let ours = found.is_some_and(|found| found.reason == "FlannelIsUp");
        let known = self.told.as_ref() == Some(&own.metadata.uid);
        if stands && (ours || known) {
            self.told = Some(own.metadata.uid.clone());
            return;
        }
        let wait = if known {
            CONDITION_PAUSE
        } else {
            Duration::ZERO
        };
        self.told = Some(own.metadata.uid.clone());
        self.due.get_or_insert_with(|| Instant::now() + wait);
    }

    /// Tells the condition if that is due.
    async fn tell(&mut self, store: &Store) {
        if self.due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.due = None;
        match store.tell_condition().await {
            Ok(()) => {
                self.failing = false;
                info!("told the cluster that this node's network works");
            }
            Err(fault) => {
                self.due = Some(Instant::now() + CONDITION_PAUSE);
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(
                        "cannot tell the cluster that this node's network works: {}. Pods that wait for it stay away from the node; trying on",
                        fault.told()
                    );
                }
            }
        }
    }

    /// How long there is nothing to do without news.
    fn patience(&self) -> Duration {
        let left = self
            .due
            .map(|due| due.saturating_duration_since(Instant::now()));
        left.unwrap_or(SILENCE)
    }
}
