//! What an operator sees, through the real daemon and the real kernel: two nodes in network namespaces.
//!
//! Needs root, and a kernel with TUN; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod cures;
mod questions;
mod scene;
mod trouble;
