//! Answers probes over HTTP: whether the daemon runs, and whether containers may rely on it.
//!
//! Two fixed answers need no web server. Connections are served one after another and briefly, so that nobody
//! can make the daemon keep many.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Longest wait for a prober that connects and says nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Nothing after the first line is of interest.
const REQUEST_MAX: usize = 1024;

/// The switch between "not ready" and "ready".
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicBool>);

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

    /// From now on containers may rely on the daemon.
    pub fn ready(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut request = [0; REQUEST_MAX];
        let length = stream.read(&mut request)?;
        let (status, text) = self.verdict(path(&request[..length]));
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        stream.write_all((head + text).as_bytes())
    }

    fn verdict(&self, path: &str) -> (&'static str, &'static str) {
        match path {
            "/healthz" => ("200 OK", "flanneld is running"),
            "/readyz" if self.0.load(Ordering::Relaxed) => ("200 OK", "flanneld is ready"),
            "/readyz" => ("503 Service Unavailable", "flanneld is not ready yet"),
            _ => ("404 Not Found", "404 page not found\n"),
        }
    }
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
        health.ready();
        assert_eq!(get("/readyz?verbose"), "HTTP/1.1 200 OK flanneld is ready");
        assert!(get("/metrics").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "HEAD /healthz HTTP/1.0\r\n\r\n").contains("200"));
    }

    #[test]
    fn nonsense_and_silence_do_not_stop_the_next_answer() {
        let health = Health::default();
        let address = health.serve("127.0.0.1:0".parse().unwrap()).unwrap();
        let _silent = TcpStream::connect(address).unwrap();
        assert!(ask(address, "\u{0}\u{1}\n").contains("404"));
        assert!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").contains("200"));
    }
}
