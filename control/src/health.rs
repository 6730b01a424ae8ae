//! Answers probes over HTTP: whether the daemon does its work, and whether containers may rely on it.
//!
//! Two fixed answers need no web server. Connections are served one after another and briefly, so that nobody
//! can make the daemon keep many.

use crate::clock::since_boot;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Longest wait for a prober that connects and says nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Nothing after the first line is of interest.
const REQUEST_MAX: usize = 1024;

/// Without a sign of life for this long a daemon counts as stuck.
pub const LIFE: Duration = Duration::from_secs(30);

/// What probes are told.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    ready: AtomicBool,
    /// The last sign of life, in milliseconds since boot; zero before the first.
    alive: AtomicU64,
}

impl Health {
    /// Answers on an address from now on, "not ready" at first; tells the address in use.
    pub fn serve(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address)?;
        let (bound, health) = (listener.local_addr()?, self.clone());
        let serve = move || {
            for stream in listener.incoming().flatten() {
                // A prober that hangs up early is its own loss.
                let _ = health.answer(stream);
            }
        };
        thread::Builder::new()
            .name("health".to_owned())
            .spawn(serve)?;
        Ok(bound)
    }

    /// Whether containers may rely on the daemon.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// A sign of life, at a time since boot.
    pub fn alive(&self, now: Duration) {
        let millis = now.as_millis().try_into().unwrap_or(u64::MAX);
        self.0.alive.store(millis, Ordering::Relaxed);
    }

    fn lives(&self, now: Duration) -> bool {
        let last = Duration::from_millis(self.0.alive.load(Ordering::Relaxed));
        last.is_zero() || now < last + LIFE
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = head(&mut stream)?;
        let (status, text) = self.verdict(path(&request), since_boot());
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        stream.write_all((head + text).as_bytes())
    }

    fn verdict(&self, path: &str, now: Duration) -> (&'static str, &'static str) {
        match path {
            "/healthz" if self.lives(now) => ("200 OK", "flanneld is running"),
            "/healthz" => ("503 Service Unavailable", "flanneld is stuck"),
            "/readyz" if self.0.ready.load(Ordering::Relaxed) => ("200 OK", "flanneld is ready"),
            "/readyz" => ("503 Service Unavailable", "flanneld is not ready yet"),
            _ => ("404 Not Found", "404 page not found\n"),
        }
    }
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
fn path(request: &[u8]) -> &str {
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
mod tests {
    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {text}", head.lines().next().unwrap())
    }

    #[test]
    fn probes_are_answered_as_stock_answers_them() {
        let health = Health::default();
        let address = health.serve("127.0.0.1:0".parse().unwrap()).unwrap();
        let get = |path: &str| {
            ask(
                address,
                &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"),
            )
        };
        assert_eq!(get("/healthz"), "HTTP/1.1 200 OK flanneld is running");
        assert_eq!(
            get("/readyz"),
            "HTTP/1.1 503 Service Unavailable flanneld is not ready yet"
        );
        health.set_ready(true);
        assert_eq!(get("/readyz?verbose"), "HTTP/1.1 200 OK flanneld is ready");
        assert!(get("/metrics").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "HEAD /healthz HTTP/1.0\r\n\r\n").contains("200"));
    }

    #[test]
    fn a_request_in_pieces_is_answered() {
        let address = Health::default()
            .serve("127.0.0.1:0".parse().unwrap())
            .unwrap();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in ["GET /heal", "thz HTTP/1.1\r\n", "Host: node1\r\n\r\n"] {
                stream.write_all(piece.as_bytes()).unwrap();
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("flanneld is running"), "{answer}");
        }
    }

    #[test]
    fn nonsense_and_silence_do_not_stop_the_next_answer() {
        let health = Health::default();
        let address = health.serve("127.0.0.1:0".parse().unwrap()).unwrap();
        let _silent = TcpStream::connect(address).unwrap();
        assert!(ask(address, "\u{0}\u{1}\n").contains("404"));
        assert!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").contains("200"));
    }

    #[test]
    fn a_daemon_without_a_sign_of_life_is_not_healthy() {
        // Stock's answer is the same whatever has become of it.
        let health = Health::default();
        let start = Duration::from_secs(1000);
        assert!(health.lives(start), "nothing is expected yet");
        health.alive(start);
        assert!(
            health
                .verdict("/healthz", start + LIFE / 2)
                .0
                .contains("200")
        );
        assert!(health.verdict("/healthz", start + LIFE).0.contains("503"));
        health.alive(start + LIFE);
        assert!(health.verdict("/healthz", start + LIFE).0.contains("200"));
    }
}
