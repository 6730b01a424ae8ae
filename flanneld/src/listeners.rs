//! The addresses on which probes and monitoring systems are answered. A successor goes on with the sockets, so that
//! nobody is turned away meanwhile.

use anyhow::{Context, Result};
use std::net::{SocketAddr, TcpListener};

/// Sockets that listen.
#[derive(Debug)]
pub(crate) struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Listens on every address for those named: on the socket of a daemon before, or on one of our own.
    pub(crate) fn open(
        addresses: &[(&str, SocketAddr)],
        mut inherited: Vec<TcpListener>,
    ) -> Result<Self> {
        let mut open = |(who, address): &(&str, SocketAddr)| {
            let listens = |one: &TcpListener| one.local_addr().is_ok_and(|local| local == *address);
            match inherited.iter().position(listens) {
                Some(place) => Ok(inherited.swap_remove(place)),
                None => TcpListener::bind(address)
                    .with_context(|| format!("cannot answer {who} on {address}")),
            }
        };
        let opened = addresses.iter().map(&mut open).collect::<Result<_>>();
        opened.map(Self)
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[TcpListener] {
        &self.0
    }

    /// The one for an address, once more.
    pub(crate) fn at(&self, address: SocketAddr) -> Result<TcpListener> {
        let listens = |one: &&TcpListener| one.local_addr().is_ok_and(|local| local == address);
        let listener = self
            .0
            .iter()
            .find(listens)
            .context("nobody listens there")?;
        listener.try_clone().context("cannot share a socket")
    }
}
