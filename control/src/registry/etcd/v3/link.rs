//! Connections to servers by version 3: what the client library is told, and what its errors mean.

use crate::registry::etcd::EtcdOptions;
use crate::registry::etcd::pool::{CALL_LIMIT, CONNECT_LIMIT, Failure, Link, read};
use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use std::error::Error as _;
use std::io;
use std::time::Duration;

/// A server that is stopped but not gone, or a path that swallows everything, is noticed after the sum of both.
/// Servers take more than one question in 5 s for an attack.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));
/// The largest answer taken.
pub(super) const MESSAGE_MAX: usize = 8 << 20;

/// How a server that knows no users refuses a log-in.
const UNGUARDED: &str = "authentication is not enabled";

/// Status codes that are an answer: another endpoint would say the same. By number: invalid argument, not found, already
/// exists, permission denied, failed precondition, out of range, unimplemented, unauthenticated.
const DEFINITE: [i32; 8] = [3, 5, 6, 7, 9, 11, 12, 16];

impl Link for Client {
    type Error = Error;

    fn check(options: &EtcdOptions, endpoint: &str) -> io::Result<()> {
        connect_options(options, endpoint).map(drop)
    }

    async fn open(options: &EtcdOptions, endpoint: &str) -> Result<Self, Error> {
        let connect = async |options: &EtcdOptions| {
            let connect = connect_options(options, endpoint)?;
            Self::connect([endpoint], Some(connect)).await
        };
        match connect(options).await {
            // A name and a password that nobody asks for do no harm; an old cluster may ask by version 2 alone.
            Err(error) if describe(&error).contains(UNGUARDED) => {
                let user = None;
                let options = EtcdOptions {
                    user,
                    ..options.clone()
                };
                connect(&options).await
            }
            connected => connected,
        }
    }

    fn failure(error: &Error) -> Failure {
        let why = describe(error);
        match error {
            // A broken connection comes under any code, but with its cause attached.
            Error::GRpcStatus(status)
                if status.source().is_none() && DEFINITE.contains(&i32::from(status.code())) =>
            {
                Failure::Answer(why)
            }
            _ => Failure::Trouble(why),
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
