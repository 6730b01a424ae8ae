//! Many leases: how long until every one is a route, and what they take of memory and of the store.

use std::time::{Duration, Instant};

use benches::etcd::Gateway;

use super::hub::Hub;
use super::scene::record;
use super::table::{ms, report};

/// What a network of /24s in a /8 has room for, in steps.
const STEPS: [usize; 3] = [1000, 2000, 10_000];
const CONFIG: &str = r#"{"Network":"10.0.0.0/8","SubnetMin":"10.0.0.0","SubnetMax":"10.9.255.0","Backend":{"Type":"vxlan"}}"#;
const BUSINESS: [&str; 4] = ["Range", "Txn", "LeaseGrant", "Watch"];

/// Writes a lease as a stock node would for each number.
fn write(gateway: &Gateway, numbers: std::ops::Range<usize>) {
    let pairs: Vec<_> = numbers
        .map(|n| {
            let (high, low) = (n / 256, n % 256);
            let value = format!(
                r#"{{"PublicIP":"172.16.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:{high:02x}:{low:02x}"}}}}"#
            );
            (record(&format!("10.{}.{low}.0-24", 10 + high)), value.into_bytes())
        })
        .collect();
    gateway.put_all(&pairs).unwrap();
}

fn calls(gateway: &Gateway) -> u64 {
    BUSINESS
        .iter()
        .map(|kind| gateway.calls(kind).unwrap())
        .sum()
}

/// What a daemon that has just started has come to.
struct Load {
    time: Duration,
    now_kib: u64,
    peak_kib: u64,
    calls: u64,
}

/// Starts a daemon and waits until its table has so many peers.
fn load(hub: &mut Hub, gateway: &Gateway, peers: usize) -> Load {
    let before = calls(gateway);
    let begun = Instant::now();
    hub.start(&[]);
    hub.await_line(0, &format!(" {peers} peer subnets"));
    let time = begun.elapsed();
    let daemon = hub.daemon(0);
    let load = Load {
        time,
        now_kib: daemon.memory_kib().unwrap(),
        peak_kib: daemon.peak_memory_kib().unwrap(),
        calls: calls(gateway) - before,
    };
    hub.stop_last();
    load
}

#[test]
fn thousands_of_leases_are_loaded_in_a_moment() {
    let mut hub = Hub::new(CONFIG);
    hub.plug(1);
    let gateway = hub.gateway();
    let idle = load(&mut hub, &gateway, 0);
    let mut written = 0;
    for leases in STEPS {
        write(&gateway, written..leases);
        written = leases;
        let loaded = load(&mut hub, &gateway, leases);
        let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
        report(
            &format!("start with {leases} leases in etcd"),
            None,
            &[
                ("all routes after", ms(loaded.time)),
                ("without any", ms(idle.time)),
                ("resident", mib(loaded.now_kib)),
                (
                    "over idle",
                    mib(loaded.now_kib.saturating_sub(idle.now_kib)),
                ),
                ("peak", mib(loaded.peak_kib)),
                ("calls to etcd in all", loaded.calls.to_string()),
                ("without any", idle.calls.to_string()),
            ],
        );
        // Calls do not grow with leases; one page holds them all.
        assert_eq!(loaded.calls, idle.calls);
    }
}
