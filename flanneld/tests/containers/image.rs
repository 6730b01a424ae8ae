//! The image containers are made of: busybox under the names of the commands they run, nothing pulled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAMES: [&str; 10] = [
    "sh",
    "cat",
    "dd",
    "httpd",
    "ip",
    "ping",
    "sha256sum",
    "sleep",
    "test",
    "wget",
];
/// Where runtimes mount things, and what the web server serves.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "etc", "proc", "sys", "tmp", "www"];

/// Writes the image into a directory; where it is.
pub(crate) fn build(directory: &Path) -> PathBuf {
    let (tree, image) = (directory.join("tree"), directory.join("image.tar"));
    for name in DIRECTORIES {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    fs::copy(busybox(), tree.join("bin/busybox")).unwrap();
    copy_libraries(&tree);
    for name in NAMES {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    let mut pack = Command::new("tar");
    pack.arg("-C").arg(&tree).arg("-cf").arg(&image).arg(".");
    assert!(pack.status().unwrap().success());
    image
}

/// What busybox needs besides itself; nothing, if it is the static one.
fn copy_libraries(tree: &Path) {
    let listed = Command::new("ldd").arg(busybox()).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let copy = tree.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
}

fn busybox() -> PathBuf {
    let places = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from);
    let found = places.into_iter().find(|place| place.exists());
    found.expect("there is no busybox: apt install busybox-static")
}
