//! What of io_uring can be missing, by its numbers.

/// io_uring_setup: more completions than submissions can wait (Linux 5.5).
pub const SETUP_CQSIZE: u32 = 1 << 3;
/// io_uring_setup: no interruptions (Linux 5.19).
pub const SETUP_COOP_TASKRUN: u32 = 1 << 8;
/// io_uring_setup: one thread alone submits (Linux 6.0).
pub const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
/// io_uring_setup: work is done when it is asked for (Linux 6.1).
pub const SETUP_DEFER_TASKRUN: u32 = 1 << 13;

/// io_uring_register: memory that reads need not look up.
pub const REGISTER_BUFFERS: u32 = 0;
/// io_uring_register: which operations there are (Linux 5.6).
pub const REGISTER_PROBE: u32 = 8;
/// io_uring_register: a ring of lent frames (Linux 5.19).
pub const REGISTER_PBUF_RING: u32 = 22;
/// io_uring_register: an end to operations under way (Linux 6.0).
pub const REGISTER_SYNC_CANCEL: u32 = 24;
