//! Questions to one server over HTTP, of which version 2 is made. Connections are used again; an answer that is waited
//! for at length, as a watch's, has one of its own.

use super::answer::{Change, NOT_FOUND, Node, Said};
use crate::registry::etcd::EtcdOptions;
use crate::registry::etcd::pool::{CALL_LIMIT, CONNECT_LIMIT, Failure, Link, read};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use serde::Deserialize;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The largest answer taken: all of the largest network, ten times.
const ANSWER_MAX: usize = 64 << 20;
/// Connections kept for the next question: one, and one for the calls beside a watch.
const IDLE_MAX: usize = 2;
/// How long a connection may be silent before its other end is asked for, how long between, and how often.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(2), 3);
const FORM: &str = "application/x-www-form-urlencoded";
/// Where every answer tells the number of the last change.
const INDEX: &str = "x-etcd-index";

type Line = SendRequest<Full<Bytes>>;

/// One server.
#[derive(Clone)]
pub(in crate::registry::etcd) struct Client(Arc<Server>);

struct Server {
    host: String,
    port: u16,
    /// As the server is called in requests.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<HeaderValue>,
    idle: Mutex<Vec<Line>>,
}

/// Why a question was not answered.
#[derive(Debug)]
pub(in crate::registry::etcd) enum Error {
    /// This server does not speak version 2.
    Unspoken,
    /// It answers, and will not do it.
    Denied(String),
    /// It cannot.
    Trouble(String),
}

/// The beginning of an answer.
pub(super) struct Reply {
    status: StatusCode,
    /// The number of the last change anywhere in the store.
    pub(super) index: u64,
    body: Incoming,
    line: Line,
    server: Arc<Server>,
}

impl Link for Client {
    type Error = Error;

    fn check(options: &EtcdOptions, endpoint: &str) -> io::Result<()> {
        Server::new(options, endpoint).map(drop)
    }

    async fn open(options: &EtcdOptions, endpoint: &str) -> Result<Self, Error> {
        let server = Server::new(options, endpoint).map_err(|error| trouble(&error))?;
        Ok(Self(Arc::new(server)))
    }

    fn failure(error: &Error) -> Failure {
        match error {
            Error::Denied(why) => Failure::Answer(why.clone()),
            Error::Trouble(why) => Failure::Trouble(why.clone()),
            Error::Unspoken => Failure::Trouble(
                "it does not serve version 2 of etcd's API. etcd 3.4 and 3.5 do with --enable-v2=true, later ones do not; without it use --etcd-api=v3"
                    .to_owned(),
            ),
        }
    }
}

impl Client {
    /// Asks, and waits for the whole answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        form: String,
    ) -> Result<(Said, u64), Error> {
        let reply = self.begin(method, path, form).await?;
        let index = reply.index;
        Ok((reply.said().await?, index))
    }

    /// What stands at a path, if anything does, and the number of the last change anywhere in the store.
    pub(super) async fn read(&self, path: &str) -> Result<(Option<Node>, u64), Error> {
        match self.ask(Method::GET, path, String::new()).await? {
            (Said::Done(Change { node, .. }), index) => Ok((Some(node), index)),
            (Said::Refused(refusal), index) if refusal.code == NOT_FOUND => Ok((None, index)),
            (Said::Refused(refusal), _) => Err(Error::Denied(refusal.why)),
        }
    }

    /// Whether the server says that it is of before version 3.
    pub(super) async fn is_before_v3(&self) -> Result<bool, Error> {
        let reply = self.begin(Method::GET, "/version", String::new()).await?;
        let about = serde_json::from_slice(&reply.body().await?);
        let old = |about: About| {
            ["0.", "2."]
                .iter()
                .any(|old| about.version.starts_with(old))
        };
        Ok(about.is_ok_and(old))
    }

    /// Asks, and waits for the beginning of the answer; the rest may take as long as it likes.
    pub(super) async fn begin(
        &self,
        method: Method,
        path: &str,
        form: String,
    ) -> Result<Reply, Error> {
        let mut line = match self.0.take_idle() {
            Some(line) => line,
            None => within(CONNECT_LIMIT, self.0.connect()).await?,
        };
        let request = self.0.request(method, path, form);
        let response = async {
            let sent = line.send_request(request?).await;
            sent.map_err(|error| trouble(&error))
        };
        let response: Response<Incoming> = within(CALL_LIMIT, response).await?;
        let index = response.headers().get(INDEX);
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        Ok(Reply {
            status: response.status(),
            index: index.unwrap_or_default(),
            body: response.into_body(),
            line,
            server: Arc::clone(&self.0),
        })
    }
}

/// What a server tells of itself.
#[derive(Deserialize)]
struct About {
    #[serde(rename = "etcdserver")]
    version: String,
}

impl Reply {
    /// The rest of the answer, however long that takes.
    pub(super) async fn said(self) -> Result<Said, Error> {
        let status = self.status;
        let body = self.body().await?;
        match (Said::parse(&body), status) {
            (Some(Said::Refused(refusal)), _) if refusal.is_trouble() => {
                Err(Error::Trouble(refusal.why))
            }
            (Some(Said::Refused(refusal)), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let why = format!("{}: see --etcd-username and --etcd-password", refusal.why);
                Err(Error::Denied(why))
            }
            (Some(said), _) => Ok(said),
            (None, StatusCode::NOT_FOUND) => Err(Error::Unspoken),
            (None, status) => Err(Error::Trouble(format!("it says {status} and no more"))),
        }
    }

    async fn body(self) -> Result<Bytes, Error> {
        let body = Limited::new(self.body, ANSWER_MAX).collect().await;
        self.server.put_idle(self.line);
        Ok(body.map_err(|error| trouble(&*error))?.to_bytes())
    }
}

impl Server {
    fn new(options: &EtcdOptions, endpoint: &str) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        let url = match endpoint.contains("://") {
            true => endpoint.to_owned(),
            false => format!("http://{endpoint}"),
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| wrong(&format!("{endpoint} is no URL")))?;
        let (host, tls) = match (uri.host(), uri.scheme_str()) {
            (Some(host), Some("http")) => (host, false),
            (Some(host), Some("https")) => (host, true),
            _ => return Err(wrong(&format!("{endpoint} is no URL of http or https"))),
        };
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let authority = HeaderValue::from_str(authority).map_err(|_| wrong("a strange host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority,
            tls: tls.then(|| secure(options, host)).transpose()?,
            authorization: options.user.as_ref().and_then(authorization),
            idle: Mutex::default(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        form: String,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, &self.authority);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !form.is_empty() {
            request = request.header(CONTENT_TYPE, FORM);
        }
        let request = request.body(Full::new(Bytes::from(form)));
        request.map_err(|error| trouble(&error))
    }

    async fn connect(&self) -> Result<Line, Error> {
        let stream = TcpStream::connect((&*self.host, self.port)).await;
        let stream = stream.map_err(|error| trouble(&error))?;
        // Questions are short and waited for.
        let _ = stream.set_nodelay(true);
        keep_alive(&stream).map_err(|error| trouble(&error))?;
        let Some((connector, name)) = &self.tls else {
            return shake_hands(stream).await;
        };
        let secured = connector.connect(name.clone(), stream).await;
        shake_hands(secured.map_err(|error| trouble(&error))?).await
    }

    fn take_idle(&self) -> Option<Line> {
        let mut idle = self.idle();
        idle.retain(|line| !line.is_closed());
        let ready = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    fn put_idle(&self, line: Line) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(line);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        // Nothing in here can be left half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the kernel find out where a connection is forgotten on the way, as by a firewall that was started anew.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    let (idle, between, count) = KEEP_ALIVE;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, between)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_socket_keepalive(stream, true)
}

/// Begins to speak HTTP; whoever drives the runtime keeps the connection going.
async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Line, Error> {
    let shaken = handshake(TokioIo::new(stream)).await;
    let (line, connection) = shaken.map_err(|error| trouble(&error))?;
    // What goes wrong with it is told to who waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(line)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Error::Trouble("no answer in time".to_owned());
    timeout(limit, work).await.map_err(late)?
}

/// An error and its innermost cause, which says most.
fn trouble(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let (outer, inner) = (error.to_string(), innermost.to_string());
    Error::Trouble(match outer.contains(&inner) {
        true => outer,
        false => format!("{outer}: {inner}"),
    })
}

/// The name and password, as a header nobody prints.
fn authorization((name, password): &(String, String)) -> Option<HeaderValue> {
    let coded = BASE64.encode(format!("{name}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {coded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What is needed to believe a server of this name, and to be believed.
fn secure(options: &EtcdOptions, host: &str) -> io::Result<(TlsConnector, ServerName<'static>)> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(authorities(options)?);
    let config = match &options.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(&read(certificate)?)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(io::Error::other)?;
            let identified = config.with_client_auth_cert(chain, key);
            identified.map_err(io::Error::other)?
        }
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// Who may vouch for servers: those in the file named, or else those the system believes.
fn authorities(options: &EtcdOptions) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match &options.ca_file {
        Some(path) => {
            let (added, _) = store.add_parsable_certificates(certificates(&read(path)?)?);
            if added == 0 {
                let why = format!("no certificate in {}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        None => {
            // What cannot be read of the system's cannot vouch for anybody.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Result<_, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.map_err(io::Error::other)
}
