//! The endpoints, one of them in use at a time: a call goes to the endpoint that worked last, then to the others. How
//! to talk to one is up to the [`Link`], of which there is one for each version of the API.

use super::EtcdOptions;
use crate::registry::RegistryError;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(2);
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(3);
/// For a whole call, name look-up and log-in included.
const TOTAL_LIMIT: Duration = Duration::from_secs(5);

/// A connection to one server.
pub(super) trait Link: Clone {
    /// What can go wrong with it.
    type Error;

    /// Whether the files named can be used.
    fn check(options: &EtcdOptions, endpoint: &str) -> io::Result<()>;

    /// Makes one.
    async fn open(options: &EtcdOptions, endpoint: &str) -> Result<Self, Self::Error>;

    /// What an error means to whoever has other endpoints.
    fn failure(error: &Self::Error) -> Failure;
}

/// The endpoints of one store.
pub(super) struct Pool<L> {
    options: EtcdOptions,
    current: Mutex<Current<L>>,
}

struct Current<L> {
    /// Counts changes of endpoint; the remainder says which one is in use.
    turn: usize,
    link: Option<L>,
}

impl<L: Link> Pool<L> {
    pub(super) fn new(options: EtcdOptions) -> io::Result<Self> {
        if options.endpoints.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no etcd endpoint given",
            ));
        }
        // A mistake in the files is better told at start than at every call.
        for endpoint in &options.endpoints {
            L::check(&options, endpoint)?;
        }
        Ok(Self {
            options,
            current: Mutex::new(Current {
                turn: 0,
                link: None,
            }),
        })
    }

    /// Does one thing, at another endpoint if the one in use cannot; an error tells of the last one tried.
    pub(super) async fn call<T>(
        &self,
        act: impl AsyncFn(L) -> Result<T, L::Error>,
    ) -> Result<T, RegistryError> {
        let mut trouble = String::new();
        // Once more where a connection is in use: it may have died, or its log-in run out, while nobody looked.
        for _ in 0..self.options.endpoints.len() + usize::from(self.connected()) {
            let (turn, connected) = (self.turn(), self.connected());
            match self.attempt(&act).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Answer(why)) => {
                    trouble = self.told(turn, &why);
                    self.log_in_anew(turn);
                    if !connected || self.options.user.is_none() {
                        break;
                    }
                }
                Err(Failure::Trouble(why)) => {
                    trouble = self.told(turn, &why);
                    self.give_up(turn);
                }
            }
        }
        Err(RegistryError::Unavailable(trouble))
    }

    /// The endpoint in use.
    pub(super) fn turn(&self) -> usize {
        self.current().turn
    }

    /// Uses another endpoint from now on, unless somebody chose one already.
    pub(super) fn give_up(&self, turn: usize) {
        let mut current = self.current();
        if current.turn == turn {
            *current = Current {
                turn: turn.wrapping_add(1),
                link: None,
            };
        }
    }

    /// A refusal may be due to a log-in from before somebody changed users or rights.
    fn log_in_anew(&self, turn: usize) {
        let mut current = self.current();
        if current.turn == turn && self.options.user.is_some() {
            current.link = None;
        }
    }

    fn connected(&self) -> bool {
        self.current().link.is_some()
    }

    /// A connection to the endpoint in use.
    pub(super) async fn link(&self) -> Result<L, L::Error> {
        let turn = {
            let current = self.current();
            if let Some(link) = &current.link {
                return Ok(link.clone());
            }
            current.turn
        };
        // Files are read anew: certificates are replaced while daemons run.
        let link = L::open(&self.options, self.endpoint(turn)).await?;
        let mut current = self.current();
        if current.turn == turn {
            current.link = Some(link.clone());
        }
        Ok(link)
    }

    async fn attempt<T>(&self, act: &impl AsyncFn(L) -> Result<T, L::Error>) -> Result<T, Failure> {
        let work = async { act(self.link().await?).await };
        match timeout(TOTAL_LIMIT, work).await {
            Ok(outcome) => outcome.map_err(|error| L::failure(&error)),
            Err(_) => Err(Failure::Trouble("no answer in time".to_owned())),
        }
    }

    fn endpoint(&self, turn: usize) -> &str {
        &self.options.endpoints[turn % self.options.endpoints.len()]
    }

    pub(super) fn told(&self, turn: usize, why: &str) -> String {
        format!("etcd at {}: {why}", self.endpoint(turn))
    }

    fn current(&self) -> MutexGuard<'_, Current<L>> {
        // Nothing in here can be left half done.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call failed, divided by whether another endpoint may do better.
pub(super) enum Failure {
    /// It would say the same.
    Answer(String),
    /// It may do better.
    Trouble(String),
}

/// Reads a file somebody named.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot read {}: {error}", path.display()),
        )
    })
}

impl<L> fmt::Debug for Pool<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
