//! Answers requests over HTTP with whole pages: for probes, for metrics, for a page to look at.
//!
//! A handful of fixed paths needs no web server. Connections are served one after another and briefly, so that nobody
//! can make the daemon keep many.

use crate::clock::since_boot;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Longest wait for somebody who connects and says nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Browsers say much about themselves; only the first line is of interest.
const REQUEST_MAX: usize = 8192;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Code and words, as in `200 OK`.
    pub status: &'static str,
    /// What the text is.
    pub kind: &'static str,
    /// What a browser may do with it, as a content security policy.
    pub policy: String,
    /// The text.
    pub text: String,
}

impl Page {
    /// A page that is only text, with which a browser may do nothing but show it.
    pub fn new(status: &'static str, kind: &'static str, text: String) -> Self {
        Self {
            status,
            kind,
            policy: "default-src 'none'; frame-ancestors 'none'".to_owned(),
            text,
        }
    }

    /// A page of plain words.
    pub fn plain(status: &'static str, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.to_owned())
    }

    /// There is no such page.
    pub fn none() -> Self {
        Self::plain("404 Not Found", "404 page not found\n")
    }
}

/// Ends answering on sockets that another process goes on with, without cutting anybody off.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<bool>>);

impl Gate {
    /// Returns when the last question taken has been answered; those that come are left to others.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Takes a question that has come, and answers it, unless the gate is closed.
    fn pass(
        &self,
        listener: &TcpListener,
        page: &impl Fn(&str) -> Page,
    ) -> io::Result<ControlFlow<()>> {
        let closed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Ok(ControlFlow::Break(()));
        }
        let (stream, _) = listener.accept()?;
        // Somebody who hangs up early is the only one to miss the answer.
        let _ = answer(stream, page);
        Ok(ControlFlow::Continue(()))
    }
}

/// Answers on a socket until the gate is closed, on a thread of its own, with the page for each path.
pub fn serve(
    listener: TcpListener,
    thread: &str,
    gate: &Gate,
    page: impl Fn(&str) -> Page + Send + 'static,
) -> io::Result<()> {
    // Another process may be faster to take a question that woke both.
    listener.set_nonblocking(true)?;
    let gate = gate.clone();
    let serve = move || {
        loop {
            let _ = poll(&mut [PollFd::new(&listener, PollFlags::IN)], None);
            match gate.pass(&listener, &page) {
                Ok(ControlFlow::Break(())) => return,
                Ok(ControlFlow::Continue(())) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Without a descriptor to spare the next try would fail as fast.
                Err(_) => thread::sleep(PATIENCE),
            }
        }
    };
    thread::Builder::new()
        .name(thread.to_owned())
        .spawn(serve)
        .map(drop)
}

fn answer(mut stream: TcpStream, page: &impl Fn(&str) -> Page) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = head(&mut stream)?;
    let page = page(path(&request));
    stream.write_all(rendered(&page).as_bytes())
}

/// An answer as it is sent. Nobody is to keep it, to take it for something else, or to learn from it where it was.
fn rendered(page: &Page) -> String {
    let headers = [
        ("Content-Type", page.kind),
        ("Content-Length", &page.text.len().to_string()),
        ("Content-Security-Policy", &page.policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ];
    let headers = headers.map(|(name, value)| format!("{name}: {value}\r\n"));
    format!(
        "HTTP/1.1 {}\r\n{}\r\n{}",
        page.status,
        headers.concat(),
        page.text
    )
}

/// A request up to the empty line, which may come in pieces: had one of them not been read when the connection is
/// closed, the kernel would take the answer back. Of what has no such line, as much as came in time.
fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut request, mut piece) = (Vec::new(), [0; REQUEST_MAX]);
    let deadline = since_boot() + PATIENCE;
    let ends = |request: &[u8]| request.windows(4).any(|end| end == b"\r\n\r\n");
    while request.len() < REQUEST_MAX && !ends(&request) && since_boot() < deadline {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => request.extend_from_slice(&piece[..length]),
            Err(error) if request.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(request)
}

/// The path asked for, by whatever method, without what follows a question mark.
pub(crate) fn path(request: &[u8]) -> &str {
    let line = request
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let target = std::str::from_utf8(line)
        .unwrap_or_default()
        .split(' ')
        .nth(1);
    target
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// Every page says how it was called.
    fn serve_echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let page = |path: &str| Page::plain("200 OK", path);
        serve(listener, "http", &Gate::default(), page).unwrap();
        address
    }

    /// The first line of what is answered, and the text.
    pub(crate) fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {text}", head.lines().next().unwrap())
    }

    #[test]
    fn a_request_in_pieces_is_answered() {
        let address = serve_echo();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in ["GET /heal", "thz HTTP/1.1\r\n", "Host: node1\r\n\r\n"] {
                stream.write_all(piece.as_bytes()).unwrap();
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("/healthz"), "{answer}");
        }
    }

    #[test]
    fn nonsense_and_silence_do_not_stop_the_next_answer() {
        let address = serve_echo();
        let _silent = TcpStream::connect(address).unwrap();
        assert!(ask(address, "\u{0}\u{1}\n").contains("200"));
        assert!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").contains("200"));
    }
}
