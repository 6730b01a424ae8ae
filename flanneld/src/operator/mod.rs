//! Answers an operator's questions over the local socket, on a thread of its own.
//!
//! What the control loop knows it writes on a [`Board`] at every turn, so that a loop that waits or hangs can still be
//! told about. The packet engine's counters are read where the workers write them. Only lists of peers are asked of
//! the loop, as copies of them would cost memory all the time.

mod board;
mod documents;
mod header;
mod metrics;
mod note;
mod page;

pub(crate) use board::Board;

use crate::account::Account;
use crate::daemon::{Desk, Happening};
use crate::settings::Store;
use anyhow::{Context, Result};
use console::answers::SCHEMA;
use console::protocol::Question;
use console::server::{Socket, serve};
use control::clock::since_boot;
use control::http::{self, Page};
use control::sink::Peer;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tracing::warn;

/// How long the control loop may take over a list. Much of it is a store's while the daemon starts.
const PATIENCE: Duration = Duration::from_secs(1);

/// A peer, and whether packets go there unwrapped.
pub(crate) type Way = (Peer, bool);

/// What an answer is made of.
#[derive(Debug)]
pub(crate) struct Sources {
    started: Duration,
    board: Board,
    account: Account,
    happenings: Sender<Happening>,
    /// `etcd`, `file` or `kubernetes`, and where it is.
    store: (&'static str, Vec<String>),
}

/// Begins to answer where the settings want that. No socket is no reason not to run, an address in use is.
pub(crate) fn listen(desk: &Desk<'_>) -> Result<Option<Socket>> {
    let sources = Arc::new(Sources {
        started: since_boot(),
        board: desk.board.clone(),
        account: desk.account.clone(),
        happenings: desk.happenings.clone(),
        store: places(&desk.settings.store),
    });
    if let Some(address) = desk.settings.metrics {
        let sources = Arc::clone(&sources);
        let listener = desk.listeners.at(address)?;
        http::serve(listener, "metrics", &desk.gate, move |path| {
            sources.page(path)
        })
        .context("cannot answer monitoring systems")?;
    }
    let path = desk.settings.control_socket.as_ref();
    Ok(path.and_then(|path| open_socket(path, sources)))
}

fn open_socket(path: &Path, sources: Arc<Sources>) -> Option<Socket> {
    match serve(path, move |question| sources.answer(question)) {
        Ok(socket) => Some(socket),
        Err(error) => {
            warn!(
                "flannelctl will not reach this daemon: no socket {}: {error}. --control-socket names another place",
                path.display()
            );
            None
        }
    }
}

/// The kind of a store, and where it is: no password is in that.
pub(crate) fn places(store: &Store) -> (&'static str, Vec<String>) {
    match store {
        Store::File { dir, .. } => ("file", vec![dir.display().to_string()]),
        Store::Kube(options) => ("kubernetes", vec![options.place()]),
        Store::Etcd(options) => (
            "etcd",
            options
                .endpoints
                .iter()
                .map(|url| without_user(url))
                .collect(),
        ),
    }
}

/// A URL may bear a password.
fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

impl Sources {
    fn answer(&self, question: Question) -> Result<String, String> {
        let json = match question {
            Question::Status => serde_json::to_string(&self.status()),
            Question::Lease => serde_json::to_string(&self.lease()?),
            Question::Peers => serde_json::to_string(&self.peers()?),
            Question::Routes => serde_json::to_string(&self.routes()?),
            Question::Stats => serde_json::to_string(&self.stats()),
            Question::Drops => serde_json::to_string(&self.drops()),
            Question::Dropped => serde_json::to_string(&self.dropped()),
        };
        json.map_err(|error| error.to_string())
    }

    /// What is told over HTTP: the same, and nothing that only root may know.
    fn page(&self, path: &str) -> Page {
        match path {
            "/" => page::page(),
            "/metrics" => match self.metrics() {
                Ok(text) => Page::new("200 OK", metrics::KIND, text),
                Err(error) => Page::plain("500 Internal Server Error", &error.to_string()),
            },
            other => documents::asked_for(other).map_or_else(Page::none, |asked| self.told(asked)),
        }
    }

    /// A document, or why there is none; of dropped packets only how many there were, as what is in them is root's.
    fn told(&self, question: Question) -> Page {
        let answer = match question {
            Question::Drops => serde_json::to_string(&self.drops().without_examples())
                .map_err(|error| error.to_string()),
            other => self.answer(other),
        };
        let (status, text) = match answer {
            Ok(text) => ("200 OK", text),
            Err(why) => {
                let told = serde_json::json!({
                    "schema": SCHEMA, "error": "refused", "message": why
                });
                ("503 Service Unavailable", told.to_string())
            }
        };
        Page::new(status, "application/json", text)
    }

    /// The peers as the control loop knows them.
    fn ways(&self) -> Result<Vec<Way>, String> {
        let (sender, answer) = channel();
        // Without a loop there is no answer either.
        let _ = self.happenings.send(Happening::Asked(sender));
        answer.recv_timeout(PATIENCE).map_err(|_| {
            let notes = self.board.read();
            match &notes.waiting_for {
                Some(fault) => format!("still starting: {fault}"),
                None if notes.daemon.is_none() => "still starting".to_owned(),
                None => "the control loop does not answer at the moment".to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_told_nobody() {
        let told = without_user("https://root:secret@etcd:2379");
        assert_eq!(told, "https://etcd:2379");
        assert_eq!(without_user("http://etcd:2379"), "http://etcd:2379");
    }
}
