//! What an operator sees, through the real daemon and the real kernel: two nodes in network namespaces.
//!
//! Needs root, a kernel with TUN, and Prometheus; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod bridge;
mod cures;
mod depth;
mod documents;
mod lacking;
mod leases;
mod live;
mod monitoring;
mod package;
mod page;
mod questions;
mod root;
mod scene;
mod static_build;
mod trouble;
