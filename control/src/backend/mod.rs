//! Ways to other nodes that the kernel itself goes: each backend, and each part of one, is a
//! [`TableSink`](crate::sink::TableSink) that makes the kernel's tables follow the table of peers.
//!
//! | in the network config | who carries packets | room |
//! | --- | --- | --- |
//! | `host-gw` | plain routes | [`host_gw`] |
//! | `vxlan` with `"Datapath": "kernel"` | a kernel VXLAN device | [`kernel_vxlan`] |
//! | `udp`, `vxlan` | a packet engine this crate knows nothing about | the daemon's |
//! | the same with `DirectRouting` | either of the two above, and plain routes to neighbours | [`direct`] |
//! | `alloc` | somebody else | [`alloc`] |
//!
//! All of them share [`peer_routes`]: routes to peers' subnets, and who may have made those found at start.

pub mod alloc;
pub mod direct;
pub mod host_gw;
pub mod kernel_vxlan;
pub mod peer_routes;
