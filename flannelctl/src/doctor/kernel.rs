//! What the kernel lends the daemon: its age, and the capabilities of the process.

use super::Finding;
use console::answers::Status;
use std::fs;

/// Bits of capabilities.
const NET_ADMIN: u32 = 12;
/// Raw sockets: for iptables of the older kind.
const NET_RAW: u32 = 13;

/// How old it is.
pub(super) fn release() -> Option<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(Finding::good("kernel", format!("Linux {}", release.trim())))
}

/// Whether the daemon, or else who asks, may do what the daemon has to.
pub(super) fn permissions(status: Option<&Status>) -> Option<Finding> {
    const CHECK: &str = "permissions";
    let (who, process) = match status {
        Some(status) => ("flanneld", status.pid.to_string()),
        None => ("who runs this", "self".to_owned()),
    };
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let owner = text.lines().find_map(|line| line.strip_prefix("Name:"))?;
    // In another process namespace the number is somebody else's.
    if status.is_some() && owner.trim() != "flanneld" {
        return None;
    }
    let capabilities = effective(&text)?;
    let has = |bit: u32| capabilities >> bit & 1 == 1;
    Some(match (has(NET_ADMIN), has(NET_RAW)) {
        (true, true) => Finding::good(CHECK, format!("{who} has CAP_NET_ADMIN and CAP_NET_RAW")),
        (true, false) => Finding::good(CHECK, format!("{who} has CAP_NET_ADMIN")),
        (false, _) => Finding::bad(
            CHECK,
            format!("{who} has no CAP_NET_ADMIN: no device, address, route or rule can be set"),
            "run it as root, or grant CAP_NET_ADMIN and CAP_NET_RAW (AmbientCapabilities= in a unit, --cap-add in a container)",
        ),
    })
}

fn effective(status: &str) -> Option<u64> {
    let digits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_a_process() {
        let text = "Name:\tflanneld\nCapEff:\t0000000000003000\n";
        assert_eq!(effective(text), Some(1 << NET_ADMIN | 1 << NET_RAW));
        assert_eq!(effective("Name:\tflanneld\n"), None);
    }
}
