//! Memory that has been freed goes back to the system.
#![allow(unsafe_code, reason = "malloc_trim")]

/// Gives back what the allocator keeps for later: after a load of many records that is more than is in use.
/// Takes a moment, and blocks whoever allocates meanwhile, which a worker never does.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number, is safe to call from any thread, and leaves allocations alone.
    unsafe {
        libc::malloc_trim(0)
    };
}
