//! Whether this machine has what a lab is built with; said before anything is set up.

use std::io;
use std::path::Path;

use crate::namespace::Namespace;

/// The commands that build a lab, and the Debian package of each.
const COMMANDS: [(&str, &str); 3] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ethtool", "ethtool"),
];
/// Where administrators' commands are, which not every path of a shell includes.
const ALSO: &str = "/usr/sbin:/sbin";
const TUN: &str = "/dev/net/tun";

/// An error that names cause and cure when a lab cannot be built here.
pub fn check() -> io::Result<()> {
    for (command, package) in COMMANDS {
        if !is_installed(command) {
            return refuse(&format!(
                "there is no `{command}`: install it (Debian: apt install {package})"
            ));
        }
    }
    if !Path::new(TUN).exists() {
        return refuse(&format!(
            "there is no {TUN}: load the module (modprobe tun), or pass the device to this container"
        ));
    }
    match Namespace::new() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            refuse("network namespaces need root: run it with sudo")
        }
        other => other.map(drop),
    }
}

/// Whether a command is found where programs are looked for.
pub fn is_installed(command: &str) -> bool {
    let path = search_path();
    path.split(':')
        .any(|directory| Path::new(directory).join(command).is_file())
}

/// Where programs are looked for, administrators' included.
pub(crate) fn search_path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":" + ALSO
}

fn refuse(why: &str) -> io::Result<()> {
    Err(io::Error::other(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_or_not() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-command-anywhere"));
    }
}
