//! What flags mean, and which make no sense.

use super::*;
use clap::Parser;

fn settings(flags: &[&str]) -> Result<Settings, Wrong> {
    let words = ["flanneld", "--store=file:/s"].iter().chain(flags);
    Settings::try_from(Args::try_parse_from(words).unwrap())
}

#[test]
fn leases_are_kept_in_etcd_unless_told_otherwise() {
    let plain = Settings::try_from(Args::try_parse_from(["flanneld"]).unwrap()).unwrap();
    let Store::Etcd(etcd) = plain.store else {
        panic!("not etcd")
    };
    assert_eq!(
        etcd.endpoints,
        ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
    );
    assert_eq!(etcd.prefix, "/coreos.com/network");
    assert!(settings(&["--store=redis:x"]).is_err() && settings(&["--store=file:"]).is_err());
    let remarks = settings(&["--store=etcd", "--net-config-path=/c"])
        .unwrap()
        .remarks;
    assert!(
        remarks[0].starts_with("--net-config-path has no effect"),
        "{remarks:?}"
    );
}

#[test]
fn what_etcd_is_told_must_be_complete() {
    let etcd = |flag: &str| settings(&["--store=etcd", flag]);
    assert!(etcd("--etcd-certfile=/c").is_err() && etcd("--etcd-keyfile=/k").is_err());
    assert!(etcd("--etcd-password=p").is_err());
    assert!(etcd("--etcd-cafile=/ca").is_ok());
}

#[test]
fn the_password_is_in_no_log_line() {
    let settings = settings(&[
        "--store=etcd",
        "--etcd-username=u",
        "--etcd-password=secret",
    ])
    .unwrap();
    assert!(!format!("{settings:?}").contains("secret"));
}

#[test]
fn the_last_of_a_repeated_flag_counts_but_interfaces_add_up() {
    let settings = settings(&["--spin=5", "--spin=7", "--iface=eth0", "--iface=eth1"]).unwrap();
    assert_eq!(settings.engine.spin, Duration::from_micros(7));
    assert_eq!(settings.interface.interfaces, ["eth0", "eth1"]);
}

#[test]
fn offloads_are_chosen_or_left_out() {
    let on = |flags: &[&str]| {
        let offloads = settings(flags).unwrap().engine.offloads;
        [
            offloads.tso,
            offloads.uso,
            offloads.gso,
            offloads.gro,
            offloads.merge,
            offloads.favourite,
        ]
        .map(u8::from)
    };
    assert_eq!(on(&[]), [1, 1, 1, 1, 1, 1]);
    assert_eq!(on(&["--offload=tso,gro"]), [1, 0, 0, 1, 0, 0]);
    assert_eq!(on(&["--no-offload=merge"]), [1, 1, 1, 1, 0, 1]);
    assert_eq!(on(&["--no-offload=all"]), [0, 0, 0, 0, 0, 0]);
}

#[test]
fn state_file_and_socket_are_beside_the_subnet_file_unless_told_otherwise() {
    let state = |flags: &[&str]| settings(flags).unwrap().state_file;
    let socket = |flags: &[&str]| settings(flags).unwrap().control_socket;
    let beside = state(&["--subnet-file=/run/x/subnet.env"]);
    assert_eq!(beside, Some("/run/x/subnet.env.state".into()));
    assert_eq!(state(&["--state-file=/s"]), Some("/s".into()));
    assert_eq!(state(&["--state-file=none"]), None);
    let beside = socket(&["--subnet-file=/run/x/subnet.env"]);
    assert_eq!(beside, Some("/run/x/subnet.env.sock".into()));
    assert_eq!(socket(&["--control-socket=none"]), None);
}

#[test]
fn numbers_out_of_range_are_refused() {
    for flag in [
        "--subnet-lease-renew-margin=0",
        "--subnet-lease-renew-margin=1440",
        "--lease-time=1",
        "--lease-time=5256001",
        "--iptables-resync=0",
        "--workers=0",
        "--spin=2000000",
        "--forms=udp,udp",
        "--iface-regex=[",
    ] {
        assert!(settings(&[flag]).is_err(), "{flag}");
    }
}

#[test]
fn a_margin_longer_than_the_lease_is_told_to_have_no_effect() {
    let remarks = |flags: &[&str]| settings(flags).unwrap().remarks;
    assert!(remarks(&["--lease-time=43200"]).is_empty());
    let remarks = remarks(&["--lease-time=30"]);
    assert!(remarks[0].contains("half their time"), "{remarks:?}");
}

#[test]
fn switches_take_the_words_go_knows() {
    for (word, meaning) in [
        ("1", true),
        ("t", true),
        ("TRUE", true),
        ("True", true),
        ("0", false),
        ("f", false),
        ("F", false),
        ("False", false),
    ] {
        assert_eq!(
            settings(&[&format!("--pin={word}")]).unwrap().engine.pin,
            Some(meaning),
            "{word}"
        );
    }
    assert_eq!(settings(&["--pin"]).unwrap().engine.pin, Some(true));
    assert!(Args::try_parse_from(["flanneld", "--pin=yes"]).is_err());
}

#[test]
fn an_unknown_flag_is_answered_with_the_nearest_name() {
    let error = Args::try_parse_from(["flanneld", "--ifac=eth0"]).unwrap_err();
    assert!(error.to_string().contains("--iface"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_cluster_names_the_node_or_its_pod() {
    let named = |variables: &[(&str, &str)]| {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
        node_name(|name| found(name).map(|(_, text)| (*text).to_owned()))
    };
    let pod = [("POD_NAME", "p"), ("POD_NAMESPACE", "n")];
    let of_pod = NodeName::OfPod {
        namespace: "n".to_owned(),
        pod: "p".to_owned(),
    };
    assert_eq!(named(&pod), Ok(of_pod));
    let known = [pod[0], pod[1], ("NODE_NAME", "a")];
    assert_eq!(named(&known), Ok(NodeName::Known("a".to_owned())));
    let refused = named(&[pod[0], ("NODE_NAME", "")]).unwrap_err();
    assert!(refused.0.contains("POD_NAME and POD_NAMESPACE must be set"));
}

#[test]
#[cfg(not(feature = "kube"))]
fn a_program_without_kubernetes_says_so_and_how_to_have_it() {
    let refused = settings(&["--kube-subnet-mgr"]).unwrap_err();
    for words in [
        "--kube-subnet-mgr",
        "built without Kubernetes",
        "--no-default-features",
    ] {
        assert!(refused.0.contains(words), "no {words} in {refused}");
    }
}

#[test]
#[cfg(feature = "kube")]
fn a_cluster_is_the_only_store() {
    let refused = settings(&["--kube-subnet-mgr"]).unwrap_err();
    assert!(refused.0.contains("exclude each other"), "{refused}");
}
