//! The versions of the protocol between runtimes and plugins, and what came with which.

use crate::error::{Error, code};

/// Oldest first.
pub(crate) const SUPPORTED: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// One of the supported versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(usize);

impl Version {
    pub(crate) const OLDEST: Self = Self(0);
    /// The first with CHECK.
    pub(crate) const CHECKS: Self = Self(4);
    /// The first with GC and STATUS.
    pub(crate) const COLLECTS: Self = Self(6);
    pub(crate) const NEWEST: Self = Self(SUPPORTED.len() - 1);

    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        let found = SUPPORTED.iter().position(|known| *known == name);
        let unknown = || {
            let why = format!("cniVersion \"{name}\" is not supported");
            Error::new(code::VERSION, why).cure(format!("use one of {}", SUPPORTED.join(", ")))
        };
        found.map(Self).ok_or_else(unknown)
    }

    pub(crate) fn name(self) -> &'static str {
        SUPPORTED[self.0]
    }

    /// An error for a command that did not exist yet in this version.
    pub(crate) fn needs(self, first: Self, command: &str) -> Result<(), Error> {
        if self >= first {
            return Ok(());
        }
        let why = format!(
            "{command} needs cniVersion {} or newer, the config says {}",
            first.name(),
            self.name()
        );
        Err(Error::new(code::VERSION, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order_and_know_their_names() {
        assert!(Version::parse("0.3.1").unwrap() < Version::CHECKS);
        assert_eq!(Version::CHECKS.name(), "0.4.0");
        assert_eq!(Version::COLLECTS.name(), "1.1.0");
        assert_eq!(Version::parse("9.9.9").unwrap_err().code, code::VERSION);
    }
}
