//! Many nodes at the same moment.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use benches::etcd::Api;

use super::hub::Hub;
use super::scene::{PATIENCE, await_until, by_both_versions, told};
use super::table::{ms, report};

by_both_versions!(
    a_crowd_that_starts_at_once_gets_a_subnet_each,
    of_two_who_race_for_the_last_subnet_one_waits,
    a_broken_config_is_told_once_and_a_mended_one_is_taken,
);

const CROWD: usize = 64;
/// What a small host would choose.
const SMALL: [&str; 2] = ["--io=epoll", "--workers=1"];

fn a_crowd_that_starts_at_once_gets_a_subnet_each(api: Api) {
    let mut hub = Hub::new(api, r#"{"Network":"10.5.0.0/16"}"#);
    hub.plug(CROWD);
    let begun = Instant::now();
    (0..CROWD).for_each(|_| hub.start(&SMALL));
    let all = |hub: &Hub| (0..CROWD).filter_map(|node| hub.subnet(node)).count() == CROWD;
    await_until(|| all(&hub), || "some have no subnet".to_owned());
    let leased = begun.elapsed();
    for node in 0..CROWD {
        hub.await_line(node, &format!("{} peer subnets", CROWD - 1));
    }
    let complete = begun.elapsed();
    let memory = (0..CROWD).filter_map(|node| hub.daemon(node).peak_memory_kib());
    let memory = memory.max().unwrap_or_default() as f64 / 1024.0;
    report(
        &format!("64 daemons started at once on this machine{}", told(api)),
        None,
        &[
            ("all have a subnet", ms(leased)),
            ("all know each other", ms(complete)),
            ("memory of the largest", format!("{memory:.1} MiB")),
        ],
    );
    let subnets: BTreeSet<_> = (0..CROWD).filter_map(|node| hub.subnet(node)).collect();
    assert_eq!(subnets.len(), CROWD, "{subnets:?}");
    (0..CROWD).for_each(|node| hub.daemon(node).still_running().unwrap());
}

fn of_two_who_race_for_the_last_subnet_one_waits(api: Api) {
    // One subnet is left: the range has a single one.
    let config = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.9.0"}"#;
    let mut hub = Hub::new(api, config);
    hub.plug(2);
    hub.start(&SMALL);
    hub.start(&SMALL);
    let subnets = |hub: &Hub| [hub.subnet(0), hub.subnet(1)];
    await_until(|| subnets(&hub) != [None, None], || "nobody won".to_owned());
    let winner = usize::from(hub.subnet(0).is_none());
    hub.await_line(1 - winner, "out of subnets");
    thread::sleep(Duration::from_millis(500));
    (0..2).for_each(|node| hub.daemon(node).still_running().unwrap());
    assert_eq!(hub.subnet(winner).as_deref(), Some("10.5.9.1/24"));
    assert_eq!(hub.subnet(1 - winner), None, "one subnet has one holder");
    // The one that won is gone for good.
    hub.daemon(winner).stop().unwrap();
    let freed = Instant::now();
    hub.gateway()
        .delete("/coreos.com/network/subnets/10.5.9.0-24")
        .unwrap();
    await_until(
        || hub.subnet(1 - winner).is_some(),
        || "it was not taken".to_owned(),
    );
    let taken = freed.elapsed();
    assert!(taken < PATIENCE);
    report(
        &format!("two nodes race for the last subnet{}", told(api)),
        None,
        &[("the other takes it once it is free", ms(taken))],
    );
}

fn a_broken_config_is_told_once_and_a_mended_one_is_taken(api: Api) {
    let mut hub = Hub::new(api, r#"{"Network":"10.5.0.0/33"}"#);
    hub.plug(1);
    hub.start(&SMALL);
    hub.await_line(0, "network config cannot be used");
    thread::sleep(Duration::from_millis(2500));
    let lines = hub.daemon(0).log().matches("cannot be used").count();
    assert_eq!(lines, 1, "{}", hub.daemon(0).log());
    let mended = Instant::now();
    hub.configure(r#"{"Network":"10.5.0.0/16"}"#);
    await_until(|| hub.subnet(0).is_some(), || "no subnet".to_owned());
    report(
        &format!("config broken at start, then mended{}", told(api)),
        None,
        &[("subnet after", ms(mended.elapsed()))],
    );
}
