//! The machine that serves: one client at a time, one job at a time.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use super::jobs::Working;
use super::protocol::{Conversation, Mark, Reply, Request};
use crate::cpu;

/// A server that listens, and nothing more until it is [run](Server::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addresses: Vec<IpAddr>,
}

impl Server {
    /// Waits for clients at the first of `addresses`; traffic may come to all of them.
    pub fn listen(addresses: &[SocketAddr]) -> io::Result<Self> {
        let first = addresses
            .first()
            .ok_or_else(|| io::Error::other("no address to listen on"))?;
        let explain = |error| io::Error::other(format!("cannot listen on {first}: {error}"));
        Ok(Self {
            listener: TcpListener::bind(first).map_err(explain)?,
            addresses: addresses.iter().map(SocketAddr::ip).collect(),
        })
    }

    /// Where clients find it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves one client after the other; `say` is told who comes and goes. Ends after the first where
    /// that is all that is wanted.
    pub fn run(&self, once: bool, say: impl Fn(&str)) -> io::Result<()> {
        loop {
            let (stream, client) = self.listener.accept()?;
            say(&format!("{client} measures"));
            match self.serve(stream) {
                Ok(()) => say(&format!("{client} is done")),
                Err(error) => say(&format!("{client} is gone: {error}")),
            }
            if once {
                return Ok(());
            }
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut client = Conversation::over(stream)?;
        let mut working = None;
        while let Some(request) = client.hear()? {
            let reply = self.answer(request, &mut working);
            let refused = |error: io::Error| Reply::Refused(error.to_string());
            client.say(&reply.unwrap_or_else(refused))?;
        }
        Ok(())
    }

    fn answer(&self, request: Request, working: &mut Option<Working>) -> io::Result<Reply> {
        match request {
            Request::Hello => Ok(Reply::Hello {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                    .trim()
                    .to_owned(),
            }),
            Request::Begin { at, job } => {
                self.may_listen(at)?;
                if job.is_absurd() {
                    return Err(io::Error::other("no measurement needs as much as that"));
                }
                let begun = Working::begin(at, job)?;
                let ports = begun.ports();
                *working = Some(begun);
                Ok(Reply::Begun { ports })
            }
            Request::Mark => {
                let idle = || Mark {
                    busy: cpu::machine_busy(),
                    ..Mark::default()
                };
                Ok(Reply::Mark(
                    working.as_ref().map_or_else(idle, Working::mark),
                ))
            }
            Request::End => {
                let ended = working.take().map(Working::end).transpose()?;
                Ok(Reply::Ended(ended.unwrap_or_default()))
            }
        }
    }

    /// Refuses addresses nobody at this machine has named.
    fn may_listen(&self, address: IpAddr) -> io::Result<()> {
        let named = |own: &IpAddr| *own == address || own.is_unspecified();
        if self.addresses.iter().any(named) {
            return Ok(());
        }
        let why = format!(
            "it was not told to listen on {address}: start it with --listen {address} as well"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}
