//! A server that lies: it speaks as much of version 3 as a watch needs, and tells of one record what it was told to.

use h2::RecvStream;
use h2::server::{SendResponse, handshake};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;

const KEY: &str = "/net/subnets/10.5.1.0-24";

/// What the record says from a revision on: the address of its node.
pub(super) type Version = (u64, &'static str);
type Tale = &'static [Version];

/// The server; ends when dropped.
pub(super) struct Liar {
    address: SocketAddr,
    over: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    /// A server that lists the first version, and has every watch hear of the others, in the order given.
    pub(super) fn telling(tale: Tale) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, over) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let end = Arc::clone(&over);
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = end.notified() => {}
                    () = serve(listener, tale) => {}
                }
            });
        };
        Self {
            address,
            over,
            thread: Some(thread::spawn(serve)),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.notify_one();
        self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, tale: Tale) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(talk(socket, tale));
    }
}

async fn talk(socket: TcpStream, tale: Tale) -> Result<(), h2::Error> {
    let mut connection = handshake(socket).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        tokio::spawn(answer(request, respond, tale));
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    tale: Tale,
) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", grpc);
    let mut stream = respond.send_response(head, false)?;
    let [listed, changes @ ..] = tale else {
        return Ok(());
    };
    if request.uri().path().ends_with("/Watch") {
        stream.send_data(framed(&begun(*listed)), false)?;
        for change in changes {
            stream.send_data(framed(&changed(*change)), false)?;
        }
        // A watch has no end, and the question may go on, too.
        return std::future::pending().await;
    }
    stream.send_data(framed(&listing(*listed)), false)?;
    let done = ("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(HeaderMap::from_iter([(done.0.parse().unwrap(), done.1)]))
}

/// A message behind its length, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

fn listing((revision, address): Version) -> Vec<u8> {
    let count = number(4, 1);
    [
        header(revision),
        bytes(2, &record((revision, address))),
        count,
    ]
    .concat()
}

fn begun((revision, _): Version) -> Vec<u8> {
    [header(revision), number(3, 1)].concat()
}

fn changed((revision, address): Version) -> Vec<u8> {
    let event = bytes(2, &record((revision, address)));
    [header(revision), bytes(11, &event)].concat()
}

fn header(revision: u64) -> Vec<u8> {
    bytes(1, &number(3, revision))
}

fn record((revision, address): Version) -> Vec<u8> {
    let value = format!(r#"{{"PublicIP":"{address}"}}"#);
    [
        bytes(1, KEY.as_bytes()),
        number(3, revision),
        bytes(5, value.as_bytes()),
    ]
    .concat()
}

/// A field that is a number below 128.
fn number(field: u8, value: u64) -> Vec<u8> {
    vec![field << 3, value as u8]
}

/// A field that is a text or a message, below 128 bytes.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2, value.len() as u8], value].concat()
}
