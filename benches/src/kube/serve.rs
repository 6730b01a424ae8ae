//! Connections, each on a thread of its own, and which request is answered how.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use socket2::SockRef;

use super::access::Access;
use super::http::{Request, answer};
use super::patch::Patch;
use super::status::Failure;
use super::store::Store;
use super::watch;
use crate::authority::Identity;

const JSON: &str = "application/json";
const PAUSE: Duration = Duration::from_millis(20);

type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;
type Select = Box<dyn Fn(&Value) -> bool>;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    tls: Arc<ServerConfig>,
    store: Mutex<Store>,
    access: Mutex<Access>,
    busy: Mutex<Option<Duration>>,
    pub(super) forgetful: AtomicBool,
    pub(super) silent: AtomicBool,
    stopped: AtomicBool,
    listener: Mutex<Option<TcpListener>>,
    connections: Mutex<Vec<TcpStream>>,
    counts: Mutex<BTreeMap<String, usize>>,
}

/// What there is to do.
enum Job {
    Answer(Value),
    Watch(Select),
}

/// Takes connections until the server is stopped.
pub(super) fn start(listener: TcpListener, shared: Arc<Shared>) {
    *lock(&shared.listener) = listener.try_clone().ok();
    thread::spawn(move || {
        while let Ok((connection, _)) = listener.accept() {
            if let Ok(other) = connection.try_clone() {
                lock(&shared.connections).push(other);
            }
            let shared = Arc::clone(&shared);
            // A connection that breaks is the client's matter.
            thread::spawn(move || drop(shared.converse(connection)));
        }
    });
}

impl Shared {
    pub(super) fn new(identity: &Identity) -> io::Result<Self> {
        let chain = CertificateDer::pem_slice_iter(&fs::read(&identity.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(&fs::read(&identity.key)?);
        let key = key.map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        Ok(Self {
            tls: Arc::new(tls),
            store: Mutex::new(Store::new()),
            access: Mutex::new(Access::new()),
            busy: Mutex::default(),
            forgetful: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            listener: Mutex::default(),
            connections: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn access(&self) -> MutexGuard<'_, Access> {
        lock(&self.access)
    }

    pub(super) fn set_busy(&self, pause: Option<Duration>) {
        *lock(&self.busy) = pause;
    }

    pub(super) fn is_forgetful(&self) -> bool {
        self.forgetful.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn cut(&self) {
        for connection in lock(&self.connections).drain(..) {
            // One that is closed already needs no closing.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Ends what waits for connections, and all there are.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(listener) = lock(&self.listener).take() {
            // Who does not wait any more needs no end.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        self.cut();
    }

    pub(super) fn note(&self, what: String) {
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    pub(super) fn count(&self, beginning: &str) -> usize {
        let counts = lock(&self.counts);
        let counted = counts
            .iter()
            .filter(|(what, _)| what.starts_with(beginning));
        counted.map(|(_, count)| count).sum()
    }

    /// Waits until something has happened after a version, or a bookmark was asked for, for a while at most.
    pub(super) fn await_change(&self, seen: u64, marked: u64, patience: Duration) {
        let store = self.store();
        let changed = Arc::clone(&store.changed);
        let nothing = |store: &mut Store| store.version() <= seen && store.bookmarks == marked;
        drop(changed.wait_timeout_while(store, patience, nothing));
    }

    fn converse(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let other = connection.try_clone()?;
        let session = ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(session, connection));
        while let Some(request) = Request::read(&mut stream)? {
            self.serve(&request, &mut stream)?;
        }
        // As long as others keep it, it does not end by itself.
        other.shutdown(Shutdown::Both)
    }

    fn serve(&self, request: &Request, stream: &mut Stream) -> io::Result<()> {
        while self.silent.load(Ordering::Relaxed) && !self.is_stopped() {
            thread::sleep(PAUSE);
        }
        let what = format!("{} {}", verb(request).to_uppercase(), request.place());
        self.note(what);
        let stream = stream.get_mut();
        if let Some(pause) = *lock(&self.busy) {
            let more = format!("Retry-After: {}\r\n", pause.as_secs());
            let text = b"Too many requests, please try again later.\n";
            return answer(stream, 429, &more, "text/plain; charset=utf-8", text);
        }
        match self.job(request) {
            Ok(Job::Answer(value)) => answer(stream, 200, "", JSON, value.to_string().as_bytes()),
            Ok(Job::Watch(select)) => watch::serve(self, request, select, stream),
            Err(failure) => {
                let status = failure.status().to_string();
                answer(stream, failure.code, "", JSON, status.as_bytes())
            }
        }
    }

    fn job(&self, request: &Request) -> Result<Job, Failure> {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match (request.method.as_str(), &path[..]) {
            ("GET", ["api", "v1", "nodes"]) => {
                self.allow(request, "nodes", "")?;
                let select = selector(request.query("fieldSelector"))?;
                if verb(request) == "watch" {
                    return Ok(Job::Watch(select));
                }
                let limit = request.query("limit").parse().unwrap_or(0);
                let page = self.store().list(limit, request.query("continue"), select);
                page.map(Job::Answer)
            }
            ("GET", ["api", "v1", "nodes", name]) => {
                self.allow(request, "nodes", name)?;
                let node = self.store().node(name).cloned();
                let node = node.ok_or_else(|| Failure::not_found("nodes", name));
                node.map(Job::Answer)
            }
            ("GET", ["api", "v1", "namespaces", namespace, "pods", name]) => {
                self.allow(request, "pods", name)?;
                let pod = self.store().pod(namespace, name);
                let pod = pod.ok_or_else(|| Failure::not_found("pods", name));
                pod.map(Job::Answer)
            }
            ("PATCH", ["api", "v1", "nodes", name, "status"]) => {
                self.allow(request, "nodes/status", name)?;
                told(self.store().patch_status(name, &patch(request)?)?)
            }
            ("PATCH", ["api", "v1", "nodes", name]) => {
                self.allow(request, "nodes", name)?;
                told(self.store().patch_node(name, &patch(request)?)?)
            }
            ("POST", ["api", "v1", "nodes"]) => {
                self.allow(request, "nodes", "")?;
                told(self.store().create_node(body(request)?)?)
            }
            ("DELETE", ["api", "v1", "nodes", name]) => {
                self.allow(request, "nodes", name)?;
                let node = self.store().node(name).cloned();
                let node = node.ok_or_else(|| Failure::not_found("nodes", name))?;
                self.store().remove_node(name);
                Ok(Job::Answer(node))
            }
            _ => {
                self.allow(request, "other", "")?;
                Err(Failure::no_such_path())
            }
        }
    }

    fn allow(&self, request: &Request, resource: &str, name: &str) -> Result<(), Failure> {
        let bearer = request.header("authorization");
        self.access().check(bearer, verb(request), resource, name)
    }
}

/// What a request says.
fn body(request: &Request) -> Result<Value, Failure> {
    serde_json::from_slice(&request.body).map_err(|error| Failure::bad_request(error.to_string()))
}

fn patch(request: &Request) -> Result<Patch, Failure> {
    let kind = request.header("content-type").unwrap_or_default();
    Patch::of(kind, body(request)?).ok_or_else(|| Failure::unsupported(kind))
}

fn told(object: Arc<Value>) -> Result<Job, Failure> {
    Ok(Job::Answer((*object).clone()))
}

/// What a request asks for, in the words of roles.
fn verb(request: &Request) -> &'static str {
    let collection = request.path.last().is_some_and(|last| last == "nodes");
    let watches = ["1", "true"].contains(&request.query("watch"));
    match request.method.as_str() {
        "GET" if collection && watches => "watch",
        "GET" if collection => "list",
        "GET" => "get",
        "PATCH" => "patch",
        "POST" => "create",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// Which nodes a selector means.
fn selector(text: &str) -> Result<Select, Failure> {
    if text.is_empty() {
        return Ok(Box::new(|_| true));
    }
    let name = text.strip_prefix("metadata.name=").map(str::to_owned);
    let name = name.ok_or_else(|| Failure::bad_request("field label not supported"))?;
    Ok(Box::new(move |node| node["metadata"]["name"] == name))
}

fn lock<T: ?Sized>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
