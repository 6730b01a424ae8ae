//! The packet engine: packets in, packets out; no leases, no async, no configuration files.
//!
//! Outward a packet goes [`outbound`] -> [`plan`] -> `io::underlay`; inward `io::underlay` ->
//! [`inbound`] -> [`intake`] -> [`wire::merge`] -> `io`. One [`worker`] thread per queue runs both, [`engine`]
//! starts them, [`table`] tells them where packets go and counts by peer, [`stats`] what became of each;
//! [`examples`] shows some of those that were dropped.

mod answers;
mod capabilities;
mod config;
mod confine;
mod engine;
mod error;
mod examples;
mod idle;
mod inbound;
mod intake;
mod io;
mod kernel;
mod outbound;
mod paths;
mod plan;
mod probe;
mod recent;
mod shortcut;
mod sockets;
mod stats;
mod sys;
mod table;
pub mod wire;
mod worker;

pub use capabilities::{Capabilities, IoKind};
pub use config::{Device, EngineConfig, Form, IoChoice, Offloads, SourceCheck};
pub use engine::Engine;
pub use engine::adopt::{QueueHandle, SocketHandle};
pub use error::StartError;
pub use examples::Example;
pub use kernel::Kernel;
pub use probe::look_ahead;
pub use recent::Recent;
pub use sandbox::calls::Refusal;
pub use stats::{Counter, Counters, Distribution, DropReason, Measure};
pub use sys::heap::give_back_memory;
pub use table::{Peer, PeerForm, Route, SubnetTable, Traffic};
pub use wire::Mac;
