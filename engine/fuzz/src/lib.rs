//! Hostile bytes for the pure half of the engine, and what must hold whatever they are.
//!
//! Each target reads the fuzzer's bytes as a small program that builds packets, because random
//! bytes never have a right checksum, and then damages them. What must come out is worked out by
//! [`reference`], slowly and with nothing shared with the engine.

pub mod decapsulate;
pub mod icmp;
mod input;
pub mod merge;
pub mod outer;
mod reference;
mod sketch;
pub mod split;

#[path = "../../tests/oracle/order.rs"]
mod order;
#[path = "../../tests/oracle/packet.rs"]
mod packet;
