//! What an etcd is to be before it is started.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use super::member::{Member, Seat};
use super::{Etcd, Secrets};
use crate::authority::{Authority, Identity};
use crate::namespace::Namespace;
use crate::scratch::Scratch;

/// Where etcd serves clients and its own kind, in a namespace that is free for it.
const USUAL_PORTS: [u16; 2] = [2379, 2380];

/// A member without others need not wait for a second before it elects itself.
const AT_ONCE: [&str; 2] = ["--heartbeat-interval=10", "--election-timeout=100"];

/// Whom the members talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Everybody, in clear text.
    Plain,
    /// Everybody, behind TLS.
    Tls,
    /// Only who shows a certificate, behind TLS.
    Certified,
}

/// A store that does not run yet.
#[derive(Debug)]
pub struct Plan {
    seats: Vec<Seat>,
    clients: Clients,
    authority: Option<Authority>,
    host: Option<String>,
    flags: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seats: Vec::new(),
            clients: Clients::Plain,
            authority: None,
            host: None,
            flags: Vec::new(),
        }
    }
}

impl Plan {
    /// One more member, in a namespace and at an address there, with the usual ports. The namespace may be
    /// dropped before.
    pub fn member(mut self, namespace: &Namespace, address: IpAddr) -> io::Result<Self> {
        self.seats.push(Seat {
            namespace: Some(namespace.share()?),
            address,
            ports: USUAL_PORTS,
        });
        Ok(self)
    }

    /// One more member, on the loopback of the current namespace.
    pub fn local_member(mut self) -> Self {
        self.seats.push(Seat {
            namespace: None,
            address: Ipv4Addr::LOCALHOST.into(),
            ports: free_ports(),
        });
        self
    }

    /// Whom to talk to.
    pub fn clients(mut self, clients: Clients) -> Self {
        self.clients = clients;
        self
    }

    /// Who signs the servers' certificates, instead of an authority of its own.
    pub fn signed_by(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// The name the servers' certificates give, instead of their address.
    pub fn known_as(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Serves version 2 of the API beside version 3.
    pub fn version_2(self) -> Self {
        self.flag("--enable-v2=true")
    }

    /// One more word on etcd's command line.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts all members, and waits until they listen.
    pub fn launch(self) -> io::Result<Etcd> {
        let mut etcd = self.prepare()?;
        etcd.run()?;
        Ok(etcd)
    }

    /// Settles everything but runs nothing: nobody listens at the URLs.
    pub fn prepare(mut self) -> io::Result<Etcd> {
        if self.seats.is_empty() {
            self = self.local_member();
        }
        let scratch = Scratch::new()?;
        let secrets = self.secrets()?;
        let seats = std::mem::take(&mut self.seats);
        let cluster = seats.iter().enumerate().map(|(n, seat)| seat.peer(n));
        let cluster = cluster.collect::<Vec<_>>().join(",");
        let alone = seats.len() == 1;
        let members = seats.into_iter().enumerate().map(|(n, seat)| {
            let mut flags = vec![format!("--initial-cluster={cluster}")];
            if alone {
                flags.extend(AT_ONCE.map(str::to_owned));
            }
            if let Some(secrets) = &secrets {
                flags.extend(self.tls_flags(secrets, n, seat.address)?);
            }
            flags.extend(self.flags.iter().cloned());
            Ok(Member::new(
                n,
                seat,
                secrets.is_some(),
                scratch.path(),
                flags,
            ))
        });
        Ok(Etcd {
            members: members.collect::<io::Result<_>>()?,
            secrets,
            _scratch: scratch,
        })
    }

    fn secrets(&mut self) -> io::Result<Option<Secrets>> {
        if self.clients == Clients::Plain {
            return Ok(None);
        }
        let authority = match self.authority.take() {
            Some(authority) => authority,
            None => Authority::new()?,
        };
        let client = authority.sign("client", &["client"])?;
        Ok(Some(Secrets { authority, client }))
    }

    fn tls_flags(&self, secrets: &Secrets, n: usize, address: IpAddr) -> io::Result<Vec<String>> {
        let (authority, name) = (&secrets.authority, format!("server{n}"));
        let Identity { certificate, key } = match &self.host {
            Some(host) => authority.sign(&name, &[host])?,
            None => authority.sign_server(&name, address)?,
        };
        let flag = |name: &str, file: &Path| format!("--{name}={}", file.display());
        let mut flags = vec![flag("cert-file", &certificate), flag("key-file", &key)];
        if self.clients == Clients::Certified {
            flags.push("--client-cert-auth".to_owned());
            flags.push(flag("trusted-ca-file", &authority.certificate()));
        }
        Ok(flags)
    }
}

/// Two ports nobody else will take, not even while the server is down for a moment: below those the kernel
/// hands out, counted within a hundred of this process's own.
fn free_ports() -> [u16; 2] {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 220) as u16 * 100;
    [(); 2].map(|()| base + COUNT.fetch_add(1, Ordering::Relaxed))
}
