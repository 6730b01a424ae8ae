//! The status page: what `flannelctl` shows, in a browser. One text without anything from elsewhere; it asks this
//! daemon for the same documents once a second, and what it shows of them it shows as text.

use control::http::Page;
use std::hash::{BuildHasher, RandomState};

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");

/// The page, with a policy that lets nothing else run in it, and nobody frame it.
pub(super) fn page() -> Page {
    let nonce = format!("{:016x}", RandomState::new().hash_one("page"));
    let text = HTML.replace("NONCE", &nonce);
    let text = text.replace("\nCSS", &format!("\n{CSS}"));
    Page {
        status: "200 OK",
        kind: "text/html; charset=utf-8",
        policy: format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        text: text.replace("\nJS", &format!("\n{JS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let text = page().text;
        let text = text.replace("http://www.w3.org/2000/svg", "the name of a language");
        for elsewhere in ["http:", "https:", "src=", "url(", "@import", "stylesheet"] {
            assert!(!text.contains(elsewhere), "{elsewhere}");
        }
        for text_as_code in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(text_as_code), "{text_as_code}");
        }
    }

    #[test]
    fn only_what_the_page_brings_runs_in_it() {
        let (one, other) = (page(), page());
        assert_ne!(one.policy, other.policy);
        let nonce = one.policy.split("script-src 'nonce-").nth(1);
        let nonce = nonce.and_then(|rest| rest.split('\'').next()).unwrap();
        let marks = one.text.matches(&format!("nonce=\"{nonce}\"")).count();
        assert_eq!(marks, 2);
        assert!(one.policy.starts_with("default-src 'none'"));
    }
}
