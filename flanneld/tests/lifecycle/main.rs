//! A daemon's life: what becomes of the tunnel when the store, the underlay, the device or the service manager
//! do something else than on a good day. Two nodes in network namespaces, leases in a real etcd.
//!
//! Needs root, and a kernel with TUN; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod cleanup;
mod config;
mod end;
mod fences;
mod files;
#[cfg(target_arch = "x86_64")]
mod hijack;
mod identity;
mod kills;
mod manager;
mod memory;
mod power_cut;
#[cfg(target_arch = "x86_64")]
mod privileges;
mod rules;
mod stage;
mod takeover;
mod underlay;
