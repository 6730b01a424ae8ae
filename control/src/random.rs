//! Random numbers seeded by the operating system.
//!
//! Many nodes start in the same instant from the same image; a seed made of time and thread would let them
//! pick the same subnet or the same Ethernet address.

use std::hash::{BuildHasher, RandomState};

/// A fresh generator.
pub(crate) fn generator() -> fastrand::Rng {
    fastrand::Rng::with_seed(RandomState::new().hash_one(std::process::id()))
}
