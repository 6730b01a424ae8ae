//! One instrument for the demo, the end-to-end tests and the benchmarks.
//!
//! A [`Lab`] is two nodes joined by a veth, each with a bridge and one container, all in network
//! namespaces of this process. A [`Path`] is what carries packets between the two containers:
//! plain routing, kernel VXLAN, the daemon, or a one-packet-at-a-time peer. [`traffic`] sends
//! through it, [`cpu`] says what that cost, [`stats`], [`report`] and [`plot`] say what it means. A
//! [`run`] measures many of them in turn; [`between`] does it with two machines instead of a lab.
//!
//! ```text
//! container a ── cni0 ── node a ── eth0 ═══ eth0 ── node b ── cni0 ── container b
//!  10.5.x.2     10.5.x.1   192.168.77.1   192.168.77.2           10.5.y.1    10.5.y.2
//! ```
//!
//! The namespaces have no name: only descriptors of this process and its children hold them, so
//! the kernel removes them, and every device inside, however the process ends.

pub mod authority;
pub mod baseline;
pub mod between;
pub mod cpu;
pub mod daemon;
pub mod deprive;
pub mod etcd;
pub mod frames;
pub mod interrupt;
pub mod kube;
pub mod lab;
pub mod measure;
pub mod namespace;
pub mod paths;
pub mod plot;
pub mod preflight;
pub mod report;
pub mod run;
pub mod scale;
pub mod scratch;
pub mod soak;
pub mod stats;
mod sys;
pub mod traffic;

pub use lab::{Lab, Profile, Side};
pub use namespace::Namespace;
pub use paths::{Path, PathSpec};
