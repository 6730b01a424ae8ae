//! Many leases at once; a hundred thousand are for `scale` of the benches.

use benches::scale::Scale;

use super::scene::flanneld;
use super::table::report;

const STEPS: [usize; 3] = [1000, 2000, 10_000];

#[test]
fn ten_thousand_leases_are_loaded_with_as_many_calls_as_one_thousand() {
    // Stock asks for the remaining time of each.
    let mut scale = Scale::new(flanneld()).unwrap();
    let idle = scale.load(0).unwrap();
    report(
        "start without leases in etcd",
        None,
        &[("here:", idle.to_string())],
    );
    let mut calls = Vec::new();
    for leases in STEPS {
        let load = scale.load(leases).unwrap();
        let over_idle = load.memory_kib.saturating_sub(idle.memory_kib) as f64 / 1024.0;
        report(
            &format!("start with {leases} leases in etcd"),
            None,
            &[
                ("here:", load.to_string()),
                ("over idle", format!("{over_idle:.1} MiB")),
            ],
        );
        calls.push(load.calls);
    }
    assert_eq!(calls, [calls[0]; STEPS.len()]);
}
