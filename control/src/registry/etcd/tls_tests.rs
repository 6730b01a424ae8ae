//! The registry against an etcd behind TLS: who is believed, and who is not.

use super::server::Server;
use super::{EtcdOptions, EtcdRegistry};
use crate::registry::{Registry, RegistryError};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// An authority and what it signed, in files.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(
            dir.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        Self {
            dir,
            issuer: Issuer::new(params, key),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Signs a certificate for a host and leaves it and its key in files of that name.
    fn sign(&self, name: &str, host: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let (certificate, secret) = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        fs::write(
            &certificate,
            params.signed_by(&key, &self.issuer).unwrap().pem(),
        )
        .unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        (certificate, secret)
    }

    /// A server known by a host name, with more flags.
    fn serve(&self, host: &str, extra: &[&str]) -> Server {
        let (certificate, key) = self.sign("server", host);
        let flags = [
            &[
                "--cert-file",
                certificate.to_str().unwrap(),
                "--key-file",
                key.to_str().unwrap(),
            ],
            extra,
        ]
        .concat();
        Server::start_with("https", &flags)
    }

    /// A server that asks clients for a certificate.
    fn serve_known_clients(&self) -> Server {
        let ca = self.file("ca.pem");
        self.serve(
            "127.0.0.1",
            &[
                "--client-cert-auth",
                "--trusted-ca-file",
                ca.to_str().unwrap(),
            ],
        )
    }

    fn options(&self, server: &Server) -> EtcdOptions {
        EtcdOptions {
            endpoints: vec![server.url()],
            prefix: "/net".to_owned(),
            ca_file: Some(self.file("ca.pem")),
            lease_time: Duration::from_secs(60),
            ..EtcdOptions::default()
        }
    }
}

fn refusal(options: EtcdOptions) -> String {
    match EtcdRegistry::open(options).unwrap().snapshot() {
        Err(RegistryError::Unavailable(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn answers(options: EtcdOptions) -> bool {
    EtcdRegistry::open(options).unwrap().snapshot().is_ok()
}

#[test]
fn an_authority_alone_is_enough() {
    // Stock drops all TLS settings unless it has a certificate of its own.
    let authority = Authority::new();
    let server = authority.serve("127.0.0.1", &[]);
    assert!(answers(authority.options(&server)));
}

#[test]
fn a_server_of_an_unknown_authority_is_refused() {
    let authority = Authority::new();
    let server = authority.serve("127.0.0.1", &[]);
    let stranger = Authority::new();
    let why = refusal(EtcdOptions {
        ca_file: Some(stranger.file("ca.pem")),
        ..authority.options(&server)
    });
    assert!(why.contains("certificate"), "{why}");
    let why = refusal(EtcdOptions {
        ca_file: None,
        ..authority.options(&server)
    });
    assert!(why.contains("certificate"), "{why}");
}

#[test]
fn a_server_of_another_name_is_refused() {
    let authority = Authority::new();
    let server = authority.serve("etcd.elsewhere", &[]);
    let why = refusal(authority.options(&server));
    assert!(why.contains("not valid for"), "{why}");
}

#[test]
fn our_certificate_is_shown_where_it_is_asked_for() {
    let authority = Authority::new();
    let server = authority.serve_known_clients();
    let identity = Some(authority.sign("client", "node1"));
    assert!(answers(EtcdOptions {
        identity,
        ..authority.options(&server)
    }));
    assert!(!answers(authority.options(&server)));
}

#[test]
fn a_certificate_that_is_replaced_is_used_without_a_restart() {
    let authority = Authority::new();
    let server = authority.serve_known_clients();
    let identity = authority.sign("client", "node1");
    let good = (
        fs::read(&identity.0).unwrap(),
        fs::read(&identity.1).unwrap(),
    );
    let stranger = Authority::new();
    let (certificate, key) = stranger.sign("client", "node1");
    fs::copy(certificate, &identity.0).unwrap();
    fs::copy(key, &identity.1).unwrap();
    let registry = EtcdRegistry::open(EtcdOptions {
        identity: Some(identity.clone()),
        ..authority.options(&server)
    })
    .unwrap();
    assert!(registry.snapshot().is_err());
    fs::write(&identity.0, good.0).unwrap();
    fs::write(&identity.1, good.1).unwrap();
    assert!(registry.snapshot().is_ok());
}

#[test]
fn a_plain_url_stays_plain_beside_tls_settings() {
    let authority = Authority::new();
    let server = Server::start();
    assert!(answers(authority.options(&server)));
}

#[test]
fn a_missing_file_is_told_at_start() {
    let authority = Authority::new();
    let options = EtcdOptions {
        endpoints: vec!["https://127.0.0.1:1".to_owned()],
        ca_file: Some(authority.file("none.pem")),
        ..EtcdOptions::default()
    };
    let why = EtcdRegistry::open(options).unwrap_err().to_string();
    assert!(why.contains("none.pem"), "{why}");
}
