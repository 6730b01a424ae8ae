//! Capabilities: parts of root's power that the kernel lets a thread keep or lose.

use rustix::io;
use rustix::thread::{self, CapabilitySets};

pub use rustix::thread::CapabilitySet as Capabilities;

/// What the calling thread may use.
pub fn held() -> io::Result<Capabilities> {
    thread::capabilities(None).map(|sets| sets.permitted)
}

/// Gives up all but these for good, also for programs that are started; tells what is left.
pub fn keep(kept: Capabilities) -> io::Result<Capabilities> {
    thread::set_no_new_privs(true)?;
    let sets = thread::capabilities(None)?;
    for bit in 0..u64::BITS {
        let one = Capabilities::from_bits_retain(1 << bit);
        // Needs a capability itself, and without it the programs we start gain nothing either: no new privileges.
        if !kept.contains(one) && thread::remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    let left = sets.permitted & kept;
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: sets.inheritable & kept,
        },
    )?;
    Ok(left)
}

/// Does something with no more than these, and takes the others up again afterwards.
pub fn with_only<T>(some: Capabilities, act: impl FnOnce() -> T) -> io::Result<T> {
    let before = thread::capabilities(None)?;
    let effective = before.effective & some;
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective,
            ..before
        },
    )?;
    let done = act();
    thread::set_capabilities(None, before)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A line of what the kernel says of a thread.
    fn status(of: &str, name: &str) -> String {
        let status = std::fs::read_to_string(of).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn what_a_thread_gave_up_neither_it_nor_its_programs_get_back() {
        let lost = || {
            assert_eq!(keep(Capabilities::empty()).unwrap(), held().unwrap());
            let own = status("/proc/thread-self/status", "CapPrm:");
            let program = Command::new("grep")
                .args(["CapEff:", "/proc/self/status"])
                .output();
            (own, String::from_utf8(program.unwrap().stdout).unwrap())
        };
        let (own, program) = std::thread::spawn(lost).join().unwrap();
        assert_eq!(u64::from_str_radix(&own, 16).unwrap(), 0);
        assert!(program.ends_with("\t0000000000000000\n"), "{program}");
        assert!(held().is_ok(), "the thread that started it is as before");
    }

    #[test]
    fn what_is_laid_down_for_a_moment_is_taken_up_again() {
        let before = held().unwrap();
        let during = with_only(Capabilities::empty(), || {
            status("/proc/thread-self/status", "CapEff:")
        });
        assert_eq!(u64::from_str_radix(&during.unwrap(), 16).unwrap(), 0);
        assert_eq!(held().unwrap(), before);
    }
}
