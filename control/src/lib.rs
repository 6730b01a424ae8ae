//! Subnets, leases and host set-up: everything about an overlay network but its packets.
//!
//! In the order a starting daemon needs it:
//!
//! - [`network`] reads what all nodes agree on, [`pool`] does its arithmetic
//! - [`host`] finds the underlay address, and later sets up the TUN device by netlink
//! - [`subnet_file`] remembers the subnet from last time and tells others which one it is
//! - [`acquire`] gets a subnet from the [`registry`]: its own, its previous or a free one (`allocate`)
//! - [`hold`] keeps it: renewed in time, taken back when lost
//! - [`sync`] follows the registry: reports are folded into a [`book`], held against a [`screen`], and become
//!   the table of a [`sink`], which is some data plane this crate knows nothing about
//! - [`backend`] has the sinks that need nothing but the kernel: plain routes, and past a tunnel
//!
//! [`in_force`] compares the network config with what the registry says later; [`memory`] is what a run leaves for
//! the next, and [`handover`] what it gives to another while it still works; [`health`] tells probes how far this has
//! come, over [`http`].
//!
//! A [`bridge`] shows each of two registries the records of the other.
//!
//! Nothing here is on a packet's path. Calls may block and log.

#![forbid(unsafe_code)]

pub mod acquire;
mod allocate;
mod atomic_file;
pub mod backend;
pub mod book;
pub mod bridge;
pub mod clock;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod handover;
pub mod health;
pub mod hold;
pub mod host;
pub mod http;
pub mod in_force;
mod json;
pub mod lease;
mod leaving;
pub mod mac;
pub mod memory;
pub mod network;
pub mod pool;
mod random;
pub mod registry;
pub mod screen;
pub mod sink;
pub mod subnet_file;
pub mod subnet_key;
pub mod sync;
