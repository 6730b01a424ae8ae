//! Hostile bytes for all that reads what others wrote: records, configs, files, questions.
//!
//! Bytes are taken as they are, or as a small program that puts together what is nearly right: random bytes are
//! never JSON for long. What comes out of a reader is held against what must be true of it.

pub mod config;
pub mod files;
#[path = "../../../engine/fuzz/src/input.rs"]
mod input;
pub mod questions;
pub mod records;
mod sketch;
