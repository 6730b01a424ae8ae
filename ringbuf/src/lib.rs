//! The memory packets live in. It knows no packet and no socket.
//!
//! An [`Arena`] is one stretch of memory cut into equal slots. Each slot is owned by exactly one
//! [`Frame`], and a frame only ever moves, so whoever holds it may write to it:
//!
//! ```text
//!   arena   |  slot 0  |pad|  slot 1  |pad|  slot 2  |pad| ...
//!                          /          \
//!   frame          ,-------            ------------------------------.
//!                  | headroom |  packet                  |  free     |
//!                  0        start                    start+len     slot size
//! ```
//!
//! The life of a frame: [`Pool::take`] hands it out empty; a device fills it behind the headroom;
//! headers grow into the headroom or are cut off without moving the payload; [`Pool::put`] brings
//! it home. With `io_uring` the kernel picks the frame instead: [`BufRing::offer`] lends it,
//! [`BufRing::take`] gets it back filled. Nothing is freed packet by packet, so a frame needs no
//! destructor; the arena goes away as a whole.
//!
//! - `region`: zeroed memory from the kernel, with the huge pages and locks it grants
//! - `arena`: a region cut into slots
//! - `frame`: one slot, and which part of it is the packet
//! - `pool`: the free frames of one worker
//! - `entries`: the table of free buffers as the kernel reads it
//! - `buf_ring`: the same table as we write it, and the frames behind it
//! - `sync`: std or loom atomics

mod arena;
mod buf_ring;
mod entries;
mod frame;
mod pool;
mod region;
mod sync;

pub use arena::{Arena, FrameLayout};
pub use buf_ring::BufRing;
pub use frame::Frame;
pub use pool::Pool;
pub use region::Backing;
