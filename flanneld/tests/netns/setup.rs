//! What all tests begin with: a path that is up.

use std::path::Path as FsPath;

use benches::{Path, PathSpec, Profile};

/// The daemon that belongs to these tests.
pub(crate) fn flanneld() -> &'static FsPath {
    FsPath::new(env!("CARGO_BIN_EXE_flanneld"))
}

/// Brings up a path by its name.
pub(crate) fn up(name: &str, profile: Profile) -> Path {
    let spec: PathSpec = name.parse().unwrap();
    Path::up(&spec, profile, flanneld())
        .unwrap_or_else(|error| panic!("{name}, {profile}: {error}"))
}

/// Runs one test body in several versions, each a test of its own: `name: arguments;`
macro_rules! versions {
    ($body:ident: $($name:ident($($argument:expr),*);)*) => {
        $(
            #[test]
            fn $name() {
                $body($($argument),*);
            }
        )*
    };
}
pub(crate) use versions;
