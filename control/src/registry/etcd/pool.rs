//! The endpoints, one of them in use at a time. The client library spreads calls over all of them and does not
//! repeat a call that met a dead one; here a call goes to the endpoint that worked last, then to the others.

use super::EtcdOptions;
use crate::registry::RegistryError;
use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// For a whole call, name look-up and log-in included.
const TOTAL_LIMIT: Duration = Duration::from_secs(5);
/// A server that is stopped but not gone, or a path that swallows everything, is noticed after the sum of both.
/// Servers take more than one question in 5 s for an attack.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));
/// The largest answer taken.
pub(super) const MESSAGE_MAX: usize = 8 << 20;

/// Status codes that are an answer: another endpoint would say the same. By number: invalid argument, not found, already
/// exists, permission denied, failed precondition, out of range, unimplemented, unauthenticated.
const DEFINITE: [i32; 8] = [3, 5, 6, 7, 9, 11, 12, 16];

pub(super) struct Pool {
    options: EtcdOptions,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// Counts changes of endpoint; the remainder says which one is in use.
    turn: usize,
    client: Option<Client>,
}

impl Pool {
    pub(super) fn new(options: EtcdOptions) -> io::Result<Self> {
        if options.endpoints.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no etcd endpoint given",
            ));
        }
        // A mistake in the files is better told at start than at every call.
        for endpoint in &options.endpoints {
            connect_options(&options, endpoint)?;
        }
        Ok(Self {
            options,
            current: Mutex::default(),
        })
    }

    /// Does one thing, at another endpoint if the one in use cannot; an error tells of the last one tried.
    pub(super) async fn call<T>(
        &self,
        act: impl AsyncFn(Client) -> Result<T, Error>,
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
                client: None,
            };
        }
    }

    /// A refusal may be due to a log-in from before somebody changed users or rights.
    fn log_in_anew(&self, turn: usize) {
        let mut current = self.current();
        if current.turn == turn && self.options.user.is_some() {
            current.client = None;
        }
    }

    fn connected(&self) -> bool {
        self.current().client.is_some()
    }

    /// A client of the endpoint in use.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let turn = {
            let current = self.current();
            if let Some(client) = &current.client {
                return Ok(client.clone());
            }
            current.turn
        };
        let client = self.connect(turn).await?;
        let mut current = self.current();
        if current.turn == turn {
            current.client = Some(client.clone());
        }
        Ok(client)
    }

    /// Files are read anew: certificates are replaced while daemons run.
    async fn connect(&self, turn: usize) -> Result<Client, Error> {
        let endpoint = self.endpoint(turn);
        let options = connect_options(&self.options, endpoint)?;
        Client::connect([endpoint], Some(options)).await
    }

    async fn attempt<T>(
        &self,
        act: &impl AsyncFn(Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let work = async { act(self.client().await?).await };
        match timeout(TOTAL_LIMIT, work).await {
            Ok(outcome) => outcome.map_err(|error| Failure::from(&error)),
            Err(_) => Err(Failure::Trouble("no answer in time".to_owned())),
        }
    }

    fn endpoint(&self, turn: usize) -> &str {
        &self.options.endpoints[turn % self.options.endpoints.len()]
    }

    pub(super) fn told(&self, turn: usize, why: &str) -> String {
        format!("etcd at {}: {why}", self.endpoint(turn))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing in here can be left half done.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call failed, divided by whether another endpoint may do better.
enum Failure {
    Answer(String),
    Trouble(String),
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let why = describe(error);
        match error {
            // A broken connection comes under any code, but with its cause attached.
            Error::GRpcStatus(status)
                if status.source().is_none() && DEFINITE.contains(&i32::from(status.code())) =>
            {
                Self::Answer(why)
            }
            _ => Self::Trouble(why),
        }
    }
}

/// An error and its innermost cause, which says most: "connection refused" rather than "transport error".
pub(super) fn describe(error: &Error) -> String {
    let (outer, mut cause) = match error {
        Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
        Error::TransportError(error) => (error.to_string(), error.source()),
        other => (other.to_string(), other.source()),
    };
    let mut inner = None;
    while let Some(deeper) = cause {
        inner = Some(deeper.to_string());
        cause = deeper.source();
    }
    match inner.filter(|inner| *inner != outer) {
        Some(inner) => format!("{outer}: {}", without_link(&inner)),
        None => without_link(&outer).to_owned(),
    }
}

/// Libraries add where their own readers find more; operators would look in vain.
fn without_link(text: &str) -> &str {
    text.split_once(": https://docs.rs/")
        .map_or(text, |(text, _)| text)
}

/// TLS where the URL asks for it; the library refuses TLS options for plain URLs.
fn connect_options(options: &EtcdOptions, endpoint: &str) -> io::Result<ConnectOptions> {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT_LIMIT)
        .with_timeout(CALL_LIMIT)
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
        .with_require_leader(true);
    if let Some((name, password)) = &options.user {
        connect = connect
            .with_user(name, password)
            .with_auto_token_refresh(true);
    }
    if endpoint.starts_with("https://") {
        connect = connect.with_tls(tls(options)?);
    }
    Ok(connect)
}

fn tls(options: &EtcdOptions) -> io::Result<TlsOptions> {
    let mut tls = match &options.ca_file {
        Some(path) => TlsOptions::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => TlsOptions::new().with_enabled_roots(),
    };
    if let Some((certificate, key)) = &options.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot read {}: {error}", path.display()),
        )
    })
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
