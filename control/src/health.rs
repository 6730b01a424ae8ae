//! Answers probes over HTTP: whether the daemon does its work, and whether containers may rely on it.

use crate::clock::since_boot;
use crate::http::{self, Gate, Page};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
    /// Answers on a socket until the gate is closed, "not ready" at first.
    pub fn serve(&self, listener: TcpListener, gate: &Gate) -> io::Result<()> {
        let health = self.clone();
        http::serve(listener, "health", gate, move |path| {
            health.verdict(path, since_boot())
        })
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

    fn verdict(&self, path: &str, now: Duration) -> Page {
        let (good, yes, no) = match path {
            "/healthz" => (self.lives(now), "flanneld is running", "flanneld is stuck"),
            "/readyz" => {
                let ready = self.0.ready.load(Ordering::Relaxed);
                (ready, "flanneld is ready", "flanneld is not ready yet")
            }
            _ => return Page::none(),
        };
        match good {
            true => Page::plain("200 OK", yes),
            false => Page::plain("503 Service Unavailable", no),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::ask;
    use std::net::SocketAddr;

    fn serve(health: &Health) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        health.serve(listener, &Gate::default()).unwrap();
        address
    }

    #[test]
    fn probes_are_answered_as_stock_answers_them() {
        let health = Health::default();
        let address = serve(&health);
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
    fn a_daemon_without_a_sign_of_life_is_not_healthy() {
        // Stock's answer is the same whatever has become of it.
        let health = Health::default();
        let start = Duration::from_secs(1000);
        assert!(health.lives(start), "nothing is expected yet");
        health.alive(start);
        assert!(
            health
                .verdict("/healthz", start + LIFE / 2)
                .status
                .contains("200")
        );
        assert!(
            health
                .verdict("/healthz", start + LIFE)
                .status
                .contains("503")
        );
        health.alive(start + LIFE);
        assert!(
            health
                .verdict("/healthz", start + LIFE)
                .status
                .contains("200")
        );
    }
}
