//! Which processors this process may use, binding a thread to one of them, and its priority.
#![allow(
    unsafe_code,
    reason = "sched_getaffinity, sched_setaffinity, sched_yield"
)]

use std::io;

/// The processors this thread is allowed to run on, in order.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is a plain bit array for which all zeroes is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: `set` is `size` writable bytes; pid 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: CPU_ISSET only reads the set, and every index is below CPU_SETSIZE.
    Ok(all
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Binds the calling thread to one processor.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is a plain bit array for which all zeroes is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` came from `allowed`, so it is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is a readable set of the given size; pid 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Raises the calling thread's priority, unless somebody gave this process one on purpose.
pub(crate) fn raise_priority(nice: libc::c_int) -> io::Result<()> {
    // SAFETY: getpriority takes numbers alone; 0 is the calling thread.
    if unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } != 0 {
        return Ok(());
    }
    // SAFETY: setpriority takes numbers alone; 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
