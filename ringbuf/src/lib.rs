//! The memory packets live in.
