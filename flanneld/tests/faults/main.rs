//! What goes wrong around a daemon, under traffic: a probe of one packet per millisecond runs between two
//! containers while etcd, its certificates, its records or the other nodes misbehave.
//!
//! Tests hold what is lost and what is there in the end. How long it took is printed, one line each, and
//! never asserted: `scripts/faults` runs them one after the other and prints the table.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod certificates;
mod crowd;
mod forged;
mod fragments;
mod hub;
mod leaks;
mod lease;
mod limits;
mod peers;
mod records;
mod restart;
mod road;
mod scale;
mod scene;
mod shares;
mod slow;
mod store;
mod strangers;
mod table;
mod version_2;
