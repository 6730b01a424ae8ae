//! A certificate authority for tests: what it signs lies in files, as the programs under test want it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::scratch::Scratch;

/// A certificate and its key, both as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What is shown to others.
    pub certificate: PathBuf,
    /// What is not.
    pub key: PathBuf,
}

/// An authority and everything it signed, gone with this value.
#[derive(Debug)]
pub struct Authority {
    scratch: Scratch,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a self-signed authority.
    pub fn new() -> io::Result<Self> {
        let scratch = Scratch::new()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let own = params.self_signed(&key).map_err(io::Error::other)?;
        fs::write(scratch.path().join("ca.pem"), own.pem())?;
        Ok(Self {
            scratch,
            issuer: Issuer::new(params, key),
        })
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The authority's own certificate: what others must trust.
    pub fn certificate(&self) -> PathBuf {
        self.directory().join("ca.pem")
    }

    /// Signs a certificate for host names or addresses, good for clients and servers. A second one of the
    /// same name replaces the first in its files.
    pub fn sign(&self, name: &str, hosts: &[&str]) -> io::Result<Identity> {
        self.write(name, self.params(hosts)?)
    }

    /// As `sign`, for a certificate that ends `lifetime` from now; zero is one that has ended already.
    pub fn sign_for(&self, name: &str, hosts: &[&str], lifetime: Duration) -> io::Result<Identity> {
        let mut params = self.params(hosts)?;
        params.not_after = (std::time::SystemTime::now() + lifetime).into();
        self.write(name, params)
    }

    fn params(&self, hosts: &[&str]) -> io::Result<CertificateParams> {
        let names: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(params)
    }

    fn write(&self, name: &str, params: CertificateParams) -> io::Result<Identity> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        let identity = Identity {
            certificate: self.directory().join(format!("{name}.pem")),
            key: self.directory().join(format!("{name}.key")),
        };
        fs::write(&identity.certificate, signed.pem())?;
        fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }

    /// Signs a server's certificate for an address and the name of this machine.
    pub(crate) fn sign_server(&self, name: &str, address: IpAddr) -> io::Result<Identity> {
        self.sign(name, &[&address.to_string(), "localhost"])
    }
}
