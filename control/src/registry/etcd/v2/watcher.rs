//! Following a store by version 2: each change is waited for by a question of its own, one about the records and one about
//! the config.
//!
//! A question that waits says nothing, for hours where nothing changes. So every few seconds without a change the
//! server is asked for a sign of life beside it: that tells a server that stands still, a path that swallows everything
//! and a store that is another one by now. One connection that is forgotten on the way is found by the kernel.

use super::answer::{CLEARED, Change, Said};
use super::http::{Client, Error};
use super::{CONFIG, Place, QUORUM, RECURSIVE, SUBNETS, Store, record};
use crate::registry::News;
use crate::registry::etcd::pool::{Failure, Link};
use crate::registry::etcd::speech::Listing;
use crate::registry::etcd::watcher::{End, Teller};
use hyper::Method;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long nothing may be heard before a sign of life is asked for, and how long that is waited for.
const QUIET: Duration = Duration::from_secs(6);
const SIGN_LIMIT: Duration = Duration::from_secs(2);
/// Every so many signs must be agreed with by a majority, which costs the servers a write.
const AGREED: u32 = 10;

/// A path, and the question that waits for its next change.
struct Wait {
    target: String,
    said: Pin<Box<dyn Future<Output = Result<Said, Error>>>>,
}

impl Wait {
    /// Asks for the first change from an index on; the answer begins at once and ends with the change.
    async fn begin(client: &Client, target: String, next: u64) -> Result<Self, End> {
        let question = format!("{target}&waitIndex={next}");
        let reply = client.begin(Method::GET, &question, String::new()).await?;
        let said = Box::pin(reply.said());
        Ok(Self { target, said })
    }

    async fn go_on(&mut self, client: &Client, next: u64) -> Result<(), End> {
        let target = std::mem::take(&mut self.target);
        *self = Self::begin(client, target, next).await?;
        Ok(())
    }
}

impl Store {
    /// Tells of the listing and of every change after it, once the server waits for those.
    pub(super) async fn hear(
        &self,
        all: Listing,
        teller: &mut Teller,
        signs: &mut u32,
    ) -> Result<Infallible, End> {
        let client = self.pool.link().await?;
        let mut last = all.revision;
        let below = |path| self.target(path) + "?wait=true";
        let mut subnets = Wait::begin(&client, below(SUBNETS) + RECURSIVE, last + 1).await?;
        let mut config = Wait::begin(&client, below(CONFIG), last + 1).await?;
        teller.tell_all(all);
        loop {
            let (said, wait) = tokio::select! {
                said = &mut subnets.said => (said?, &mut subnets),
                said = &mut config.said => (said?, &mut config),
                () = sleep(QUIET) => {
                    self.ask_for_sign(&client, signs, last).await?;
                    continue;
                }
            };
            let change = changed(said)?;
            self.tell(&change, teller)?;
            wait.go_on(&client, change.node.modified_index + 1).await?;
            last = last.max(change.node.modified_index);
        }
    }

    /// Has the server show that it lives, and that it still knows of the last change.
    async fn ask_for_sign(&self, client: &Client, signs: &mut u32, last: u64) -> Result<(), End> {
        *signs = signs.wrapping_add(1);
        let agreed = signs.is_multiple_of(AGREED);
        let target = self.target(CONFIG) + if agreed { QUORUM } else { "" };
        let sign = timeout(SIGN_LIMIT, client.read(&target)).await;
        let (_, index) = sign.map_err(|_| End::Lost("no answer in time".to_owned()))??;
        match index < last {
            true => Err(End::Lost("the store is another one now".to_owned())),
            false => Ok(()),
        }
    }

    fn tell(&self, change: &Change, teller: &mut Teller) -> Result<(), End> {
        let (node, removed) = (&change.node, change.removes());
        match (self.place(&node.key), removed) {
            (Place::Config, false) => {
                let text = node.value.clone();
                text.into_iter().for_each(|text| teller.tell_config(text));
            }
            (Place::Record(name), false) => teller.tell(match record(name, node) {
                Ok(lease) => News::Put(lease),
                Err(bad) => News::Bad(bad),
            }),
            (Place::Record(name), true) => {
                let gone = name.parse().ok().map(News::Gone);
                gone.into_iter().for_each(|gone| teller.tell(gone));
            }
            // With the directory all that was in it is gone, and nothing is said of that.
            (Place::Above, true) => return Err(End::Missed),
            _ => {}
        }
        Ok(())
    }
}

/// What a question that waited was answered with.
fn changed(said: Said) -> Result<Change, End> {
    match said {
        Said::Done(change) => Ok(change),
        Said::Refused(refusal) if refusal.code == CLEARED => Err(End::Missed),
        Said::Refused(refusal) => Err(End::Lost(refusal.why)),
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match Client::failure(&error) {
            Failure::Answer(why) | Failure::Trouble(why) => Self::Lost(why),
        }
    }
}
