//! The API server: one call at a time, each with a limit, and never before the server wants to hear of us again.
//!
//! A client is made anew, from files as they are then, when a call was refused for who we are or a connection broke:
//! tokens, certificates and addresses are replaced while daemons run.

use super::KubeOptions;
use http::{Request, Response, StatusCode};
use kube::client::ClientBuilder;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error};
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tower::util::MapResponseLayer;

/// A request, before it is addressed.
pub(super) type Question = Request<Vec<u8>>;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// For a whole call: a page of a list has megabytes.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Longer than that nobody has to wait, whatever a server says.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The server.
pub(super) struct Server {
    options: KubeOptions,
    client: Mutex<Option<Client>>,
    busy: Busy,
}

/// Until when the server wants not to be asked.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<Option<Instant>>>);

/// Why a call came to nothing, by what its caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What was known is too old to go on from: list anew.
    Outdated,
    /// There is no such thing.
    Absent(String),
    /// Anything else: try later.
    Trouble(String),
}

impl Fault {
    pub(super) fn told(&self) -> &str {
        match self {
            Self::Outdated => "the API server does not remember what we know any more",
            Self::Absent(why) | Self::Trouble(why) => why,
        }
    }
}

impl Server {
    /// A mistake in the files is better told at start than at every call.
    pub(super) async fn new(options: KubeOptions) -> io::Result<Self> {
        let config = config(&options).await.map_err(io::Error::other)?;
        let busy = Busy::default();
        let client = client(config, &busy).map_err(io::Error::other)?;
        Ok(Self {
            options,
            client: Mutex::new(Some(client)),
            busy,
        })
    }

    /// Asks, and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, question: &Question) -> Result<T, Fault> {
        let ask = async |client: Client| client.request(question.clone()).await;
        match self.attempt(&ask).await {
            Err(Error::Api(status)) if status.code == 401 => {}
            outcome => return outcome.map_err(|error| self.fault(&error)),
        }
        // Who has a new token need not wait until the old one is looked at again.
        self.forget();
        let outcome = self.attempt(&ask).await;
        outcome.map_err(|error| self.fault(&error))
    }

    /// One attempt, for a limited time.
    pub(super) async fn attempt<T>(
        &self,
        ask: &impl AsyncFn(Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(pause) = self.busy.pause() {
            let why = format!(
                "it asked for a pause, {} s of which are left",
                pause.as_secs()
            );
            return Err(Error::Service(why.into()));
        }
        let work = async { ask(self.client().await?).await };
        let outcome = timeout(CALL_LIMIT, work).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Error::Service("no answer in time".into())));
        if !matches!(outcome, Ok(_) | Err(Error::Api(_))) {
            self.forget();
        }
        outcome
    }

    /// How long the server still wants to be left alone.
    pub(super) fn pause(&self) -> Duration {
        self.busy.pause().unwrap_or_default()
    }

    /// Takes the next call to a new connection.
    pub(super) fn forget(&self) {
        *self.known() = None;
    }

    async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = self.known().clone() {
            return Ok(client);
        }
        let config = config(&self.options).await;
        let config = config.map_err(|why| Error::Service(why.into()))?;
        let client = client(config, &self.busy)?;
        Ok(self.known().insert(client).clone())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        // Nothing in here can be left half done.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an error means for its caller, in words for an operator.
    pub(super) fn fault(&self, error: &Error) -> Fault {
        let place = self.options.place();
        let Error::Api(status) = error else {
            return Fault::Trouble(format!("{place}: {}", describe(error)));
        };
        let why = format!("{place}: {}", short(&status.message));
        match status.code {
            410 => Fault::Outdated,
            404 => Fault::Absent(why),
            401 => Fault::Trouble(format!(
                "{place} does not know us: see whether the token or certificate in use is valid"
            )),
            403 => Fault::Trouble(format!(
                "{why}; this daemon needs the ClusterRole of deploy/kube-flannel.yml"
            )),
            _ => Fault::Trouble(why),
        }
    }
}

impl Busy {
    fn pause(&self) -> Option<Duration> {
        let until = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Servers that are asked too much say when they may be asked again.
    fn note<B>(&self, response: &Response<B>) {
        let refused = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if !refused.contains(&response.status()) {
            return;
        }
        let seconds = response.headers().get(http::header::RETRY_AFTER);
        let seconds = seconds.and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok());
        let pause = seconds
            .map_or(Duration::ZERO, Duration::from_secs)
            .min(PAUSE_MAX);
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + pause);
    }
}

/// The files that the one to log in with names.
pub(super) fn files(options: &KubeOptions) -> Vec<PathBuf> {
    let read = options.kubeconfig.as_ref().map(Kubeconfig::read_from);
    let Some(Ok(read)) = read else {
        return Vec::new();
    };
    let clusters = read.clusters.into_iter().filter_map(|named| named.cluster);
    let authorities = clusters.filter_map(|cluster| cluster.certificate_authority);
    let users = read
        .auth_infos
        .into_iter()
        .filter_map(|named| named.auth_info);
    let identities =
        users.flat_map(|user| [user.token_file, user.client_certificate, user.client_key]);
    let named = authorities.chain(identities.flatten());
    named.map(PathBuf::from).collect()
}

/// What the settings, the environment and the files they name say.
async fn config(options: &KubeOptions) -> Result<Config, String> {
    let mut config = match (&options.kubeconfig, &options.api_url) {
        (Some(file), _) => {
            let read = Kubeconfig::read_from(file).map_err(|error| chain(&error))?;
            let choice = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &choice).await;
            config.map_err(|error| format!("{}: {}", file.display(), chain(&error)))?
        }
        (None, Some(_)) => Config::new(http::Uri::from_static("http://localhost")),
        (None, None) => Config::incluster_env().map_err(|error| {
            format!(
                "cannot log in as a pod ({}): outside of one, name a file with --kubeconfig-file",
                chain(&error)
            )
        })?,
    };
    if let Some(url) = &options.api_url {
        let parsed = url.parse();
        config.cluster_url = parsed.map_err(|error| format!("--kube-api-url {url}: {error}"))?;
    }
    config.connect_timeout = Some(CONNECT_LIMIT);
    // Our own pauses are longer, and heed what the server asks for.
    config.default_retry = false;
    Ok(config)
}

/// A client that keeps an eye on requests for a pause. It begins to work on the runtime it is made in.
fn client(config: Config, busy: &Busy) -> Result<Client, Error> {
    let busy = busy.clone();
    let watcher = MapResponseLayer::new(move |response: Response<_>| {
        busy.note(&response);
        response
    });
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&watcher)
        .build())
}

/// An error and its innermost cause, which says most.
fn describe(error: &Error) -> String {
    match error {
        Error::Service(inner) => match inner.source() {
            Some(source) => format!("{inner}: {}", innermost(source)),
            None => inner.to_string(),
        },
        other => chain(other),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let (outer, inner) = (error.to_string(), innermost(error));
    match outer.contains(&inner) {
        true => outer,
        false => format!("{outer}: {inner}"),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(deeper) = error.source() {
        error = deeper;
    }
    error.to_string()
}

/// What a server says may be a page for browsers.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(300).collect()
}
