//! Switches under /proc/sys.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Sets a switch of an interface; one that stands as wanted is left alone, as it may be read-only.
pub(super) fn set(family: &str, interface: &str, name: &str, value: &str) -> io::Result<()> {
    let path: PathBuf = ["/proc/sys/net", family, "conf", interface, name]
        .iter()
        .collect();
    if fs::read_to_string(&path).is_ok_and(|found| found.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {value} to {}: {error}", path.display()),
        )
    })
}
