//! The packet engine: packets in, packets out.

pub mod wire;
