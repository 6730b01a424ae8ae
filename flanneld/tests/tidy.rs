//! The habits of this code base, held by a test: what can be checked need not be remembered.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

/// Where unsafe code may be: the callers of the kernel and of the C library, the owner of packet memory, tests and tools
/// that talk to the kernel themselves, and the one call into code compiled for a wider processor.
const UNSAFE_ALLOWED: [&str; 7] = [
    "engine/src/sys/",
    "ringbuf/",
    "sandbox/src/",
    "engine/src/wire/checksum.rs",
    "engine/tests/",
    "benches/src/sys/",
    "flanneld/tests/",
];

/// What a package may name of the others, in its manifest.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("ringbuf", &[]),
    ("sandbox", &[]),
    ("engine", &["ringbuf", "sandbox"]),
    ("control", &["benches", "sandbox"]),
    ("console", &["sandbox"]),
    (
        "flanneld",
        &["engine", "control", "console", "sandbox", "benches"],
    ),
    (
        "flannelctl",
        &["engine", "control", "console", "sandbox", "benches"],
    ),
    ("cni", &["benches"]),
    ("manual", &["console", "control", "benches"]),
    ("benches", &["engine"]),
];

/// What the pure half of the engine must not know.
const IMPURE: [&str; 5] = [
    "std::fs",
    "std::net::UdpSocket",
    "std::time::Instant",
    "crate::sys",
    "crate::io",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every Rust file of the project with its path from the root.
fn sources() -> Vec<(String, String)> {
    let packages = MAY_USE.iter().map(|(package, _)| root().join(package));
    let mut files = Vec::new();
    packages.for_each(|package| collect(&package, &mut files));
    assert!(files.len() > 50, "the sources are found");
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name, fs::read_to_string(path).unwrap())
    };
    files.into_iter().map(named).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with the names of all files for which `wrong` has something to say.
fn none(what: &str, wrong: impl Fn(&str, &str) -> bool) {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(name, text)| wrong(name, text))
        .map(|(name, _)| name)
        .collect();
    assert!(found.is_empty(), "{what}: {found:?}");
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    none("no //! at the top", |_, text| !text.starts_with("//!"));
}

#[test]
fn no_file_is_too_long_to_read() {
    none("more than 600 lines", |_, text| {
        text.lines().count() > LINES_MAX
    });
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    let uses = |text: &str| {
        text.lines().map(str::trim_start).any(|line| {
            !line.starts_with("//")
                && (line.contains("unsafe {")
                    || line.contains("unsafe impl")
                    || line.contains("unsafe fn"))
        })
    };
    none("unsafe code", |name, text| {
        !UNSAFE_ALLOWED
            .iter()
            .any(|allowed| name.starts_with(allowed))
            && name != "flanneld/tests/tidy.rs"
            && uses(text)
    });
}

#[test]
fn nothing_is_unfinished_or_left_out() {
    let marks = ["todo!(", "unimplemented!(", "#[ignore", "dbg!("].map(|mark| mark.to_owned());
    none("unfinished", |name, text| {
        name != "flanneld/tests/tidy.rs" && marks.iter().any(|mark| text.contains(mark.as_str()))
    });
}

#[test]
fn packages_know_only_what_they_may() {
    for (package, allowed) in MAY_USE {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        let others = MAY_USE
            .iter()
            .map(|(other, _)| *other)
            .filter(|other| *other != package);
        for other in others.filter(|other| !allowed.contains(other)) {
            let named = manifest.lines().any(|line| {
                line.starts_with(&format!("{other}.workspace"))
                    || line.starts_with(&format!("{other} ="))
            });
            assert!(!named, "{package} must not know {other}");
        }
    }
}

#[test]
fn the_pure_half_of_the_engine_stays_pure() {
    none("not pure", |name, text| {
        name.starts_with("engine/src/wire/") && IMPURE.iter().any(|word| text.contains(word))
    });
}

#[test]
fn every_script_says_what_it_does() {
    for entry in fs::read_dir(root().join("scripts")).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        let second = text.lines().nth(1).unwrap_or_default();
        assert!(
            second.starts_with("# "),
            "{}: no help line",
            entry.path().display()
        );
    }
}

#[test]
fn documents_lead_to_files_that_exist() {
    let documents = [
        "docs/compatibility.md",
        "docs/reliability.md",
        "docs/containers.md",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "benches/README.md",
        "docs/troubleshooting.md",
        "docs/getting-started.md",
    ];
    for document in documents {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(
                    path.parent().unwrap().join(target).exists(),
                    "{document}: {link}"
                );
            }
        }
    }
    let decisions = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("docs/adr/"));
    for (name, text) in decisions {
        for rest in text.split("docs/adr/").skip(1) {
            let file = rest.split(".md").next().unwrap_or_default();
            if file.starts_with("00") {
                assert!(
                    root().join(format!("docs/adr/{file}.md")).exists(),
                    "{name}: docs/adr/{file}.md"
                );
            }
        }
    }
}

/// The names in the last column of a table's row.
fn tests_named(row: &str) -> Vec<&str> {
    let last = row.trim_end_matches('|').rsplit('|').next();
    let words = last.unwrap_or_default().split('`');
    words.skip(1).step_by(2).collect()
}

#[test]
fn every_test_named_in_a_comparison_exists() {
    let page = fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let sources = sources();
    // A test is a function, or a line that names one version of several.
    let exists = |name: &str| {
        let (function, version) = (format!("fn {name}("), format!("    {name}("));
        sources
            .iter()
            .any(|(_, text)| text.contains(&function) || text.contains(&version))
    };
    let mut count = 0;
    for row in rows.filter(|row| !row.starts_with("| ---") && !row.contains("| test |")) {
        let names = tests_named(row);
        assert!(
            !names.is_empty() || row.contains("not yet"),
            "no test: {row}"
        );
        for name in names {
            assert!(exists(name), "`{name}` is no test: {row}");
            count += 1;
        }
    }
    assert!(count > 100, "only {count} tests are named");
}
