//! The kernel as referee: a network namespace per test thread, TUN devices in it, and packets to
//! try.
//!
//! Needs root, for namespaces and devices. The namespace belongs to the thread alone and vanishes
//! with it, devices and all; nothing outside is touched.
#![allow(
    dead_code,
    reason = "included by several tests, each of which needs a part of it"
)]

pub(crate) mod merged;
pub(crate) mod order;
pub(crate) mod packet;
pub(crate) mod raw;
pub(crate) mod train;
pub(crate) mod tun;

use packet::Random;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process::Command;

/// A seed, from `ORACLE_SEED` if that is set, and always printed: with it a failure can be
/// repeated.
pub(crate) fn seeded() -> Random {
    let chosen = std::env::var("ORACLE_SEED").ok();
    let seed = match chosen {
        Some(seed) => seed.parse().expect("ORACLE_SEED is a decimal number"),
        None => RandomState::new().build_hasher().finish(),
    };
    println!("ORACLE_SEED={seed}");
    Random(seed)
}

/// Moves this thread to a network namespace of its own.
pub(crate) fn enter_namespace() {
    raw::unshare_network().expect("a network namespace (are we root?)");
    run("ip link set lo up; sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
}

/// Runs shell commands in this thread's namespace; each has to succeed.
pub(crate) fn run(script: &str) {
    said(script);
}

/// As `run`; what the commands print.
pub(crate) fn said(script: &str) -> String {
    let script = format!("set -e\nPATH=$PATH:/usr/sbin:/sbin\n{script}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("a shell");
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives a device the addresses of a side: packets are sent from hosts of side 1 to hosts of side
/// 2.
pub(crate) fn attach(device: &str, side: u8) {
    run(&format!(
        "sysctl -q -w net.ipv4.conf.{device}.rp_filter=0 net.ipv6.conf.{device}.accept_ra=0
         ip link set dev {device} mtu 65535 txqueuelen 20000 addrgenmode none up
         ip addr add 10.91.{side}.1/24 dev {device}
         ip addr add fdaa:{side}::1/64 dev {device} nodad"
    ));
}
