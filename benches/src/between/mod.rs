//! The same measurements between two machines, one of which serves.
//!
//! ```text
//! bench --between HOST ──── control: lines of JSON over TCP ────> bench serve
//!        near halves   <═══ traffic: TCP streams, UDP flows ═══>  far halves
//! ```
//!
//! The server authenticates nobody. So it takes one client at a time, listens on no address it was not
//! told, opens a port only for as long as a measurement lasts, and sends datagrams only to where some
//! have come from.

mod jobs;
mod link;
mod protocol;
mod serve;

pub use link::Link;
pub use serve::Server;

/// Where the server waits for clients unless told otherwise.
pub const PORT: u16 = 8290;
