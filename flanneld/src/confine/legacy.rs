//! iptables of the older kind: it needs one capability more, a lock file, and modules that only root loads.

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// By which its users wait for each other.
pub(super) const LOCK: &str = "/run/xtables.lock";
/// What lists its rules, for each family.
const TOOLS: [&str; 2] = ["iptables-save", "ip6tables-save"];
/// The tables our rules are in.
const TABLES: [&str; 2] = ["nat", "filter"];

/// Whether any of the tools is of the older kind, or of one that cannot be told.
pub(super) fn is_in_use() -> bool {
    TOOLS
        .into_iter()
        .filter_map(found)
        .any(|tool| !is_newer(&tool))
}

/// What has to be done while there is still every privilege: a first look loads the modules.
pub(super) fn prepare() {
    let mut lock = OpenOptions::new();
    // One that cannot be made is missed by the tool, which then tells so.
    let _ = lock.create(true).append(true).mode(0o600).open(LOCK);
    for tool in TOOLS {
        for table in TABLES {
            let look = Command::new(tool)
                .args(["-t", table])
                .env_clear()
                .envs(env::var_os("PATH").map(|path| ("PATH", path)))
                .stdin(Stdio::null())
                .output();
            // What goes wrong is told when the rules are set.
            drop(look);
        }
    }
}

/// Where a program is found.
fn found(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).map(|place| place.join(name));
    places.find_map(|place| fs::canonicalize(place).ok())
}

/// The newer kind speaks netlink, and is one program by many names.
fn is_newer(tool: &Path) -> bool {
    let name = tool.file_name().unwrap_or_default();
    name.to_string_lossy().contains("nft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_iptables_is_told_by_the_program_behind_its_names() {
        assert!(is_newer(Path::new("/usr/sbin/xtables-nft-multi")));
        assert!(!is_newer(Path::new("/usr/sbin/xtables-legacy-multi")));
        assert!(!is_newer(Path::new("/usr/sbin/iptables-wrapper")));
    }
}
