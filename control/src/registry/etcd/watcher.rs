//! The thread that follows etcd: a listing, then every change after it. Whenever that ends, for whatever reason
//! (server gone, leader lost, history forgotten, store wiped), it begins again with a listing; so no change can be
//! missed and no stale revision waited for.

use super::speech::{Inner, Listing, Speech};
use crate::registry::outage::Outage;
use crate::registry::{News, Watch};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Between attempts while no server answers, at most.
const OUTAGE_PAUSE_MAX: Duration = Duration::from_millis(600);

/// Why following ended.
#[derive(Debug)]
pub(super) enum End {
    /// There were more changes than the server remembers.
    Missed,
    /// The server is lost.
    Lost(String),
}

/// Tells whoever watches, nothing twice.
pub(super) struct Teller {
    news: Box<dyn FnMut(News) + Send>,
    config: Option<String>,
    outage: Outage,
}

/// Starts the thread.
pub(super) fn start<S: Speech>(
    inner: Arc<Inner<S>>,
    news: Box<dyn FnMut(News) + Send>,
) -> io::Result<Watch> {
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let mut teller = Teller {
        news,
        config: None,
        outage: Outage::none(OUTAGE_PAUSE_MAX),
    };
    let run = move || {
        inner.runtime.block_on(async {
            tokio::select! {
                () = stopped.notified() => {}
                () = run(&inner.store, &mut teller) => {}
            }
        });
    };
    let thread = thread::Builder::new().name("etcd".to_owned()).spawn(run)?;
    Ok(Watch::new(thread, move || stop.notify_one()))
}

async fn run<S: Speech>(store: &S, teller: &mut Teller) {
    let mut lesson = S::Lesson::default();
    loop {
        let begun = Instant::now();
        if let End::Lost(why) = follow(store, teller, &mut lesson).await
            && teller.outage.is_news(&why)
        {
            teller.tell(News::Lost(why));
        }
        sleep(teller.outage.pause(begun.elapsed())).await;
    }
}

/// One listing and what follows it; returns what ended that.
async fn follow<S: Speech>(store: &S, teller: &mut Teller, lesson: &mut S::Lesson) -> End {
    let all = match store.list().await {
        Ok(all) => all,
        Err(error) => return End::Lost(error.to_string()),
    };
    let (pool, turn) = (store.pool(), store.pool().turn());
    let Err(end) = store.follow(all, teller, lesson).await;
    match end {
        End::Missed => End::Missed,
        End::Lost(why) => {
            pool.give_up(turn);
            End::Lost(pool.told(turn, &why))
        }
    }
}

impl Teller {
    /// Tells of one thing.
    pub(super) fn tell(&mut self, news: News) {
        (self.news)(news);
    }

    /// Tells of all there is; an outage has ended by that.
    pub(super) fn tell_all(&mut self, all: Listing) {
        if self.outage.ends() {
            self.tell(News::Regained);
        }
        self.tell(News::Snapshot(all.snapshot));
        // A config that is removed is no news: what was read before goes on.
        if let Some(text) = all.config {
            self.tell_config(text);
        }
    }

    /// Tells of the config, where it is another one than before.
    pub(super) fn tell_config(&mut self, text: String) {
        if self.config.as_ref() != Some(&text) {
            self.config = Some(text.clone());
            self.tell(News::Config(text));
        }
    }
}
