//! End to end through the real kernel: two nodes and two containers in network namespaces.
//!
//! Needs root, and a kernel with TUN, VXLAN and io_uring; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod answers;
mod answers_ipv6;
mod carry;
mod corpus;
mod errors;
mod exit;
mod identity;
mod inner;
mod missing;
mod node_port;
mod offloads;
mod order;
mod outer_checksums;
mod refusals;
mod setup;
mod shortcut;
mod tools;
mod traffic;
