//! What published guides do with flannel, done with this daemon: their addresses, commands and outputs, on
//! nodes and containers in network namespaces, with leases in a real etcd.
//!
//! Needs root, and a kernel with TUN and VXLAN; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod addresses;
mod dual_stack;
mod golden;
mod hand_run;
#[cfg(feature = "kube")]
mod kubernetes;
mod secrets;
mod several;
#[allow(dead_code, reason = "tests of backends need more of it")]
mod site;
mod surprises;
mod talk;
mod three_nodes;
mod udp;
mod underlay;
mod vxlan;
