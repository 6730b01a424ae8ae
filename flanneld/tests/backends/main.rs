//! Every backend end to end: daemons on nodes in network namespaces that share a directory of leases, and containers
//! that talk. What one backend leaves behind must not be in the way of the next.
//!
//! Needs root, and a kernel with TUN and VXLAN; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod both_families;
mod change;
mod cluster;
mod direct_routing;
mod host_gw;
mod kernel_vxlan;
mod mesh;
mod migration;
mod moves;
mod only_ipv6;
mod probe;
#[allow(dead_code, reason = "the guides need more of it")]
#[path = "../walkthroughs/site.rs"]
mod site;
#[allow(dead_code, reason = "the guides need more of it")]
#[path = "../walkthroughs/talk.rs"]
mod talk;
