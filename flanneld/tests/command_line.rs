//! The command line and environment as operators of flannel know them, through the real program.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

use std::process::{Command, Output};

/// Every flag of flannel with a value and how the first log line shows it; nothing where it has no effect here.
const VALUED: [(&str, &str, &str); 24] = [
    (
        "etcd-endpoints",
        "https://10.0.0.1:2379,https://10.0.0.2:2379",
        r#"["https://10.0.0.1:2379", "https://10.0.0.2:2379"]"#,
    ),
    (
        "etcd-prefix",
        "/kube-centos/network",
        r#"prefix: "/kube-centos/network""#,
    ),
    ("etcd-keyfile", "/none/etcd.key", "/none/etcd.key"),
    ("etcd-certfile", "/none/etcd.pem", "/none/etcd.pem"),
    ("etcd-cafile", "/none/another.pem", "/none/another.pem"),
    ("etcd-username", "flannel", "flannel"),
    ("etcd-password", "secret", "store: Etcd"),
    ("iface", "eth7", r#"interfaces: ["eth7"]"#),
    ("iface-regex", "^10\\.4", r#"patterns: [Regex("^10\\.4")]"#),
    ("iface-can-reach", "10.4.7.1", "can_reach: Some(10.4.7.1)"),
    ("subnet-file", "/none/subnet.env", "/none/subnet.env"),
    ("public-ip", "10.4.7.21", "public_ip: Some(10.4.7.21)"),
    ("public-ipv6", "fd04::21", "public_ipv6: Some(fd04::21)"),
    ("subnet-lease-renew-margin", "120", "margin: 7200s"),
    ("healthz-ip", "127.0.0.7", "127.0.0.7:2401"),
    ("healthz-port", "2402", "0.0.0.0:2402"),
    ("iptables-resync", "77", "resync: 77s"),
    ("v", "1", "verbosity: 1"),
    ("vmodule", "vxlan=2", "--vmodule has no effect"),
    (
        "log_backtrace_at",
        "main.go:7",
        "--log_backtrace_at has no effect",
    ),
    (
        "net-config-path",
        "/none/net-conf.json",
        "--net-config-path has no effect",
    ),
    ("kube-api-url", "http://127.0.0.1:8080", "starting"),
    ("kubeconfig-file", "/none/kubeconfig", "starting"),
    ("kube-annotation-prefix", "flannel.example.org", "starting"),
];
const SWITCHES: [(&str, &str, &str); 6] = [
    ("ip-masq", "masquerade: true", "masquerade: false"),
    (
        "ip-masq-fully-random-disable",
        "random_ports: false",
        "random_ports: true",
    ),
    ("iptables-forward-rules", "forward: true", "forward: false"),
    ("set-node-network-unavailable", "starting", "starting"),
    (
        "kube-subnet-mgr",
        "POD_NAME and POD_NAMESPACE must be set",
        "starting",
    ),
    ("ip-blackhole-route", "blackhole: true", "blackhole: false"),
];

/// What makes other flags possible, or shows them.
const COMPANIONS: [(&str, &[&str]); 4] = [
    ("etcd-keyfile", &["--etcd-certfile=/none/c.pem"]),
    ("etcd-certfile", &["--etcd-keyfile=/none/c.key"]),
    ("etcd-password", &["--etcd-username=u"]),
    ("healthz-ip", &["--healthz-port=2401"]),
];

/// Runs the program, which ends by itself: the certificate file is missing.
fn flanneld(words: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let named = |flag: &str| {
        words
            .iter()
            .any(|word| word.trim_start_matches('-').starts_with(flag))
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_flanneld"));
    if !named("etcd-endpoints")
        && !env
            .iter()
            .any(|(name, _)| *name == "FLANNELD_ETCD_ENDPOINTS")
    {
        command.arg("--etcd-endpoints=https://127.0.0.1:1");
    }
    if !named("etcd-cafile") && !env.iter().any(|(name, _)| *name == "FLANNELD_ETCD_CAFILE") {
        command.arg("-etcd-cafile=/none/ca.pem");
    }
    let output = command
        .args(words)
        .env_clear()
        // These daemons end before they do anything, and leave nothing where others may be.
        .env("FLANNELD_CONTROL_SOCKET", "none")
        // They tell what they were told.
        .env("FLANNELD_V", "2")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    (output.status.code().unwrap(), text(&output))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn with_companions<'a>(flag: &str, words: &[&'a str]) -> Vec<&'a str> {
    let companions = COMPANIONS.iter().filter(|(of, _)| *of == flag);
    companions
        .flat_map(|(_, words)| words.iter().copied())
        .chain(words.iter().copied())
        .collect()
}

fn shows(words: &[&str], env: &[(&str, &str)], wanted: &str) {
    let (_, said) = flanneld(words, env);
    assert!(
        said.contains(wanted),
        "{words:?} {env:?} do not show {wanted}:\n{said}"
    );
}

fn variable(flag: &str) -> String {
    format!("FLANNELD_{}", flag.replace('-', "_").to_uppercase())
}

#[test]
fn every_flag_of_flannel_is_taken_with_one_dash_or_two_and_with_blank_or_equals() {
    for (flag, value, wanted) in VALUED {
        for dashes in ["-", "--"] {
            let (name, whole) = (format!("{dashes}{flag}"), format!("{dashes}{flag}={value}"));
            shows(&with_companions(flag, &[&name, value]), &[], wanted);
            shows(&with_companions(flag, &[&whole]), &[], wanted);
        }
    }
}

#[test]
fn every_switch_of_flannel_takes_the_words_of_go() {
    for (flag, on, off) in SWITCHES {
        for dashes in ["-", "--"] {
            shows(&[&format!("{dashes}{flag}")], &[], on);
            for word in ["1", "t", "T", "true", "TRUE", "True"] {
                shows(&[&format!("{dashes}{flag}={word}")], &[], on);
            }
            for word in ["0", "f", "F", "false", "FALSE", "False"] {
                shows(&[&format!("{dashes}{flag}={word}")], &[], off);
            }
        }
        let (code, _) = flanneld(&[&format!("--{flag}=yes")], &[]);
        assert_eq!(code, 2, "{flag}");
    }
}

#[test]
fn every_flag_of_flannel_is_taken_from_the_environment() {
    for (flag, value, wanted) in VALUED {
        let env = [(variable(flag), value)];
        shows(
            &with_companions(flag, &[]),
            &[(&env[0].0, env[0].1)],
            wanted,
        );
    }
    for (flag, on, off) in SWITCHES {
        shows(&[], &[(&variable(flag), "true")], on);
        shows(&[], &[(&variable(flag), "F")], off);
    }
}

#[test]
fn the_command_line_counts_before_the_environment() {
    let env = [
        ("FLANNELD_IFACE", "eth1"),
        ("FLANNELD_ETCD_PREFIX", "/other"),
    ];
    shows(&["-iface=eth0"], &env, r#"interfaces: ["eth0"]"#);
    shows(&["-iface=eth0"], &env, r#"prefix: "/other""#);
    shows(
        &["-ip-masq=false"],
        &[("FLANNELD_IP_MASQ", "true")],
        "masquerade: false",
    );
}

#[test]
fn a_bad_value_in_the_environment_is_told_and_the_others_count() {
    let env = [
        ("FLANNELD_HEALTHZ_PORT", "http"),
        ("FLANNELD_IP_MASQ", "yes"),
        ("FLANNELD_IFACE", "eth1"),
    ];
    let (code, said) = flanneld(&[], &env);
    assert_eq!(code, 1, "{said}");
    for wanted in [
        "Failed to set flag --healthz-port from FLANNELD_HEALTHZ_PORT",
        "Failed to set flag --ip-masq from FLANNELD_IP_MASQ",
        r#"interfaces: ["eth1"]"#,
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn interfaces_add_up_in_their_order() {
    shows(
        &["-iface=eth1", "--iface", "10.4.7.21"],
        &[],
        r#"interfaces: ["eth1", "10.4.7.21"]"#,
    );
    shows(
        &["-iface-regex=a", "-iface-regex=b"],
        &[],
        r#"patterns: [Regex("a"), Regex("b")]"#,
    );
}

#[test]
fn what_follows_the_first_word_that_is_no_flag_is_named_and_ignored() {
    let (code, said) = flanneld(&["-ip-masq", "true", "--nonsense"], &[]);
    assert_eq!(code, 1);
    assert!(
        said.contains("ignoring everything from the first word that is no flag: true --nonsense"),
        "{said}"
    );
}

#[test]
fn the_version_is_on_stderr_and_asked_for_by_the_command_line_alone() {
    for word in ["-version", "--version", "--version=true"] {
        let output = Command::new(env!("CARGO_BIN_EXE_flanneld"))
            .arg(word)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(text(&output), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    }
    let (code, said) = flanneld(&[], &[("FLANNELD_VERSION", "true")]);
    assert!(code == 1 && said.contains("starting"), "{said}");
}

#[test]
fn an_unknown_flag_is_a_failure_that_names_the_nearest() {
    // Stock prints its usage and ends with 0: a service manager takes that for success.
    for (typed, meant) in [
        ("-etcd-endpoint=x", "--etcd-endpoints"),
        ("--ifac", "--iface"),
        ("-ipmasq", "--ip-masq"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_flanneld"))
            .arg(typed)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{typed}");
        assert!(output.stdout.is_empty());
        assert!(text(&output).contains(meant), "{typed}: {}", text(&output));
    }
}

#[test]
fn a_bad_value_is_a_failure_that_names_the_flag() {
    for typed in [
        "-healthz-port=http",
        "-public-ip=node1",
        "-subnet-lease-renew-margin=1440",
        "-iptables-resync=0",
        "-iface-regex=[",
    ] {
        let (code, said) = flanneld(&[typed], &[]);
        let flag = typed.trim_start_matches('-').split('=').next().unwrap();
        assert!(code == 2 && said.contains(flag), "{typed}: {code}, {said}");
    }
}

#[test]
fn help_lists_every_flag_and_keeps_our_own_apart() {
    for word in ["-h", "-help", "--help"] {
        let output = Command::new(env!("CARGO_BIN_EXE_flanneld"))
            .arg(word)
            .output()
            .unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        let (before, own) = help
            .split_once("Additions of this implementation:")
            .unwrap();
        let stock = VALUED
            .iter()
            .map(|(flag, ..)| *flag)
            .chain(SWITCHES.map(|(flag, ..)| flag));
        for flag in stock {
            assert!(before.contains(&format!("--{flag}")), "{flag}");
        }
        for flag in ["--store", "--lease-time", "--io", "--workers", "--spin"] {
            assert!(
                own.contains(flag) && !before.contains(&format!("{flag} ")),
                "{flag}"
            );
        }
    }
}
