//! What concerns the process as a whole: its limits, and what of its memory others see.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use std::io;

/// A niceness of -10, in the kernel's way of counting.
const NICE: u64 = 30;

/// Keeps memory, and with it keys and passwords, out of core files and from all but root.
pub fn keep_secrets() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Takes as limits what would otherwise need capabilities later on: priority for workers, memory that stays in place.
/// Where that is not allowed the limits stay as somebody set them.
pub fn raise_limits() {
    let unlimited = |limit| Rlimit {
        current: limit,
        maximum: limit,
    };
    let _ = setrlimit(Resource::Nice, unlimited(Some(NICE)));
    let _ = setrlimit(Resource::Memlock, unlimited(None));
}

/// How much memory may stay in place without a capability, in bytes; `None` for any amount.
pub fn memory_in_place() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
