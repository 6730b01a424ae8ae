//! What the names of annotations begin with: a domain, a slash, and perhaps the beginning of a name that ends in a dash.

use std::fmt;
use std::str::FromStr;

/// A prefix, complete to its last letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

/// A text that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no prefix for annotations: it must look like example.com or example.com/name, in small letters"
)]
pub struct NotAPrefix(String);

impl FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let (domain, name) = text.split_once('/').unwrap_or((text, ""));
        let fit = |part: &str| !part.is_empty() && part.bytes().all(is_letter);
        let is_domain = domain.contains('.') && domain.split('.').all(fit);
        if !is_domain || !(name.is_empty() || fit(name)) {
            return Err(NotAPrefix(text.to_owned()));
        }
        let dash = if name.is_empty() || name.ends_with('-') {
            ""
        } else {
            "-"
        };
        Ok(Self(format!("{domain}/{name}{dash}")))
    }
}

fn is_letter(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotation_prefixes_are_completed_or_refused() {
        let cases = [
            (
                "flannel.alpha.coreos.com",
                Some("flannel.alpha.coreos.com/"),
            ),
            (
                "flannel.alpha.coreos.com/",
                Some("flannel.alpha.coreos.com/"),
            ),
            (
                "flannel.coreos.com/prefix",
                Some("flannel.coreos.com/prefix-"),
            ),
            (
                "flannel.coreos.com/prefix-",
                Some("flannel.coreos.com/prefix-"),
            ),
            (
                "flannel.coreos.com/a-b_c",
                Some("flannel.coreos.com/a-b_c-"),
            ),
            ("org.com", Some("org.com/")),
            ("org", None),
            ("", None),
            ("/name", None),
            ("org.com//name", None),
            ("org.com/a/b", None),
            ("org..com", None),
            ("Org.com", None),
            ("org.com/UPPER", None),
            ("org.com/with blank", None),
        ];
        for (text, whole) in cases {
            let read = text.parse::<Prefix>().map(|prefix| prefix.to_string());
            assert_eq!(read.ok().as_deref(), whole, "{text}");
        }
    }
}
