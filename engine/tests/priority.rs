//! Workers come before ordinary processes, unless somebody decided otherwise.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::IoChoice;
use loopback::{Loopback, config};
use std::fs;

/// The niceness of this process's thread with that name.
fn niceness_of(thread: &str) -> i32 {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut stats = threads.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let stat = stats
        .find(|stat| stat.contains(&format!("({thread})")))
        .unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(16).unwrap().parse().unwrap()
}

#[test]
fn a_worker_is_preferred_to_ordinary_processes() {
    let lab = Loopback::start(config(IoChoice::Auto));
    assert_eq!(niceness_of("worker-0"), -10);
    drop(lab);
}
