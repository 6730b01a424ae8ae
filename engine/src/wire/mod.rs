//! The pure half of the engine: bytes in, decisions and bytes out; no descriptors, no clock.
