//! What a runtime says in the environment: for which container, which interface, with which plugins.

use std::env;
use std::path::PathBuf;

use crate::error::{Error, code};

/// The longest name of an interface in the kernel.
const INTERFACE_MAX: usize = 15;

/// One interface of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attachment {
    pub(crate) container: String,
    pub(crate) interface: String,
}

impl Attachment {
    pub(crate) fn new(container: String, interface: String) -> Result<Self, Error> {
        if !is_name(&container) {
            return Err(bad("CNI_CONTAINERID", &container));
        }
        if !is_interface(&interface) {
            return Err(bad("CNI_IFNAME", &interface));
        }
        Ok(Self {
            container,
            interface,
        })
    }

    pub(crate) fn from_environment() -> Result<Self, Error> {
        Self::new(required("CNI_CONTAINERID")?, required("CNI_IFNAME")?)
    }
}

/// A variable that is there and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable the command cannot do without.
pub(crate) fn required(name: &str) -> Result<String, Error> {
    let missing = || Error::new(code::ENVIRONMENT, format!("{name} is not set"));
    variable(name).ok_or_else(missing)
}

/// The directories with plugins.
pub(crate) fn plugin_directories() -> Result<Vec<PathBuf>, Error> {
    required("CNI_PATH").map(|path| env::split_paths(&path).collect())
}

/// Whether a text may name a container or a network. None of them can lead out of a directory.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes().all(allowed) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn is_interface(text: &str) -> bool {
    let forbidden = |letter: char| letter.is_whitespace() || "/:".contains(letter);
    (1..=INTERFACE_MAX).contains(&text.len())
        && !text.contains(forbidden)
        && ![".", ".."].contains(&text)
}

fn bad(name: &str, value: &str) -> Error {
    Error::new(
        code::ENVIRONMENT,
        format!("{name} cannot be \"{}\"", value.escape_default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_a_directory() {
        for good in ["a", "0123abcdef", "a.b_c-d", "7"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "", ".", "..", "-a", "_a", ".hidden", "a/b", "a b", "a\0", "é",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn interfaces_are_those_the_kernel_takes() {
        for good in ["eth0", "net1", "a23456789012345", "veth.7"] {
            assert!(is_interface(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a234567890123456"] {
            assert!(!is_interface(bad), "{bad}");
        }
    }
}
