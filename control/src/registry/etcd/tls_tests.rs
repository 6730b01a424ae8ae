//! The registry against an etcd behind TLS: who is believed, and who is not.

use super::{EtcdOptions, EtcdRegistry};
use crate::registry::{Registry, RegistryError};
use benches::authority::{Authority, Identity};
use benches::etcd::{Clients, Etcd};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A server behind TLS that talks to some clients.
fn server(clients: Clients) -> Etcd {
    Etcd::plan().clients(clients).launch().unwrap()
}

fn options(server: &Etcd) -> EtcdOptions {
    EtcdOptions {
        endpoints: server.urls(),
        prefix: "/net".to_owned(),
        ca_file: server.authority().map(Authority::certificate),
        lease_time: Duration::from_secs(60),
        ..EtcdOptions::default()
    }
}

fn files(identity: Identity) -> (PathBuf, PathBuf) {
    (identity.certificate, identity.key)
}

/// A client's certificate that somebody else signed.
fn stranger() -> (Authority, (PathBuf, PathBuf)) {
    let authority = Authority::new().unwrap();
    let identity = authority.sign("client", &["node1"]).unwrap();
    (authority, files(identity))
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
    assert!(answers(options(&server(Clients::Tls))));
}

#[test]
fn a_server_of_an_unknown_authority_is_refused() {
    let server = server(Clients::Tls);
    let (stranger, _) = stranger();
    let why = refusal(EtcdOptions {
        ca_file: Some(stranger.certificate()),
        ..options(&server)
    });
    assert!(why.contains("certificate"), "{why}");
    let why = refusal(EtcdOptions {
        ca_file: None,
        ..options(&server)
    });
    assert!(why.contains("certificate"), "{why}");
}

#[test]
fn a_server_of_another_name_is_refused() {
    let elsewhere = Etcd::plan()
        .clients(Clients::Tls)
        .known_as("etcd.elsewhere");
    let why = refusal(options(&elsewhere.launch().unwrap()));
    assert!(why.contains("not valid for"), "{why}");
}

#[test]
fn our_certificate_is_shown_where_it_is_asked_for() {
    let server = server(Clients::Certified);
    let [_, certificate, key] = server.client_files().unwrap();
    assert!(answers(EtcdOptions {
        identity: Some((certificate, key)),
        ..options(&server)
    }));
    assert!(!answers(options(&server)));
}

#[test]
fn a_certificate_that_is_replaced_is_used_without_a_restart() {
    let server = server(Clients::Certified);
    let [_, certificate, key] = server.client_files().unwrap();
    let (_stranger, used) = stranger();
    let registry = EtcdRegistry::open(EtcdOptions {
        identity: Some(used.clone()),
        ..options(&server)
    })
    .unwrap();
    assert!(registry.snapshot().is_err());
    fs::copy(certificate, used.0).unwrap();
    fs::copy(key, used.1).unwrap();
    assert!(registry.snapshot().is_ok());
}

#[test]
fn a_plain_url_stays_plain_beside_tls_settings() {
    let (stranger, _) = stranger();
    assert!(answers(EtcdOptions {
        ca_file: Some(stranger.certificate()),
        ..options(&server(Clients::Plain))
    }));
}

#[test]
fn a_missing_file_is_told_at_start() {
    let options = EtcdOptions {
        endpoints: vec!["https://127.0.0.1:1".to_owned()],
        ca_file: Some("/none.pem".into()),
        ..EtcdOptions::default()
    };
    let why = EtcdRegistry::open(options).unwrap_err().to_string();
    assert!(why.contains("none.pem"), "{why}");
}
