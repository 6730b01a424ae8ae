//! Real containers of docker and of podman on two machines, as their operators would set them up.
//!
//! A machine is more than a network namespace here: it has processes, mounts and an installation of its own, so that
//! units, scripts and configs are used as they are shipped, with the paths they name.
//!
//! Needs root, docker, podman, kubectl, the CNI project's plugins and busybox; without them the tests fail and say so.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

#[cfg(feature = "kube")]
mod cluster;
mod docker;
mod exchange;
mod failures;
mod image;
mod machine;
#[cfg(feature = "kube")]
mod manifest;
mod pod;
mod podman;
mod runtime;
mod site;
mod unit;
