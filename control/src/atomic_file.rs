//! Files that are replaced whole: a reader sees the old text or the new one, never a part, whatever happens in between.

use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Writes a file with the given permission bits beside its place and moves it there.
pub(crate) fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    write_dated(path, text, mode, None)
}

/// As `write`, with a time of modification other than now.
pub(crate) fn write_dated(
    path: &Path,
    text: &[u8],
    mode: u32,
    modified: Option<SystemTime>,
) -> io::Result<()> {
    let draft = draft_path(path)?;
    let written = write_draft(&draft, text, mode, modified);
    let moved = written.and_then(|()| fs::rename(&draft, path));
    if moved.is_err() {
        // The first error is the one worth telling; a draft that was never made cannot be removed.
        let _ = fs::remove_file(&draft);
    }
    moved?;
    sync_directory(path)
}

/// Writes a file of our own, making its directory where it is missing; refuses what may be somebody's trap.
pub(crate) fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    fs::create_dir_all(parent(path))?;
    refuse_foreign(path)?;
    for draft in drafts(path) {
        // One that cannot be removed is in nobody's way.
        let _ = fs::remove_file(draft);
    }
    write(path, text, mode)
}

/// Opens a file of our own for reading; refuses what may be somebody's trap.
pub(crate) fn open_own(path: &Path) -> io::Result<File> {
    if let Some(why) = suspicious(&fs::symlink_metadata(path)?) {
        return Err(refusal(path, why));
    }
    // Whatever is there by now, it is not followed and not waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    match suspicious(&file.metadata()?) {
        Some(why) => Err(refusal(path, why)),
        None => Ok(file),
    }
}

/// What a daemon that was killed while writing has left beside the file.
pub(crate) fn drafts(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else {
        return Vec::new();
    };
    let is_draft = |found: &str| {
        let number = found
            .strip_prefix('.')
            .and_then(|found| found.strip_prefix(&*name))
            .and_then(|found| found.strip_prefix('.'));
        number.is_some_and(|digits| digits.len() == 16 && u64::from_str_radix(digits, 16).is_ok())
    };
    let beside = fs::read_dir(parent(path)).into_iter().flatten().flatten();
    beside
        .filter(|found| is_draft(&found.file_name().to_string_lossy()))
        .map(|found| found.path())
        .collect()
}

/// Refuses a file or directory in whose place somebody else could put something.
fn refuse_foreign(path: &Path) -> io::Result<()> {
    refuse_exposed(path)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => suspicious(&found?).map_or(Ok(()), |why| Err(refusal(path, why))),
    }
}

/// Refuses a place in a directory where somebody else could put something.
pub(crate) fn refuse_exposed(path: &Path) -> io::Result<()> {
    let directory = parent(path);
    let Some(why) = exposed(&fs::metadata(directory)?) else {
        return Ok(());
    };
    let cure = "choose another place or make it root's alone";
    let why = format!("{} {why}; {cure}", directory.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Why a directory is no place for a file others rely on. In a sticky one only the owner replaces a file.
fn exposed(directory: &Metadata) -> Option<&'static str> {
    const WRITABLE_BY_ALL: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    match directory.mode() & (WRITABLE_BY_ALL | STICKY) {
        WRITABLE_BY_ALL => Some("can be written to by everybody"),
        _ if ![0, geteuid().as_raw()].contains(&directory.uid()) => Some("belongs to another user"),
        _ => None,
    }
}

/// Why a file is not what a daemon would have written.
fn suspicious(found: &Metadata) -> Option<&'static str> {
    match found {
        _ if found.file_type().is_symlink() => Some("is a symbolic link"),
        _ if !found.is_file() => Some("is no ordinary file"),
        _ if found.uid() != geteuid().as_raw() => Some("belongs to another user"),
        _ if found.nlink() > 1 => Some("has another name as well (a hard link)"),
        _ => None,
    }
}

fn refusal(path: &Path, why: &str) -> io::Error {
    let why = format!("{} {why}; remove it first", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Makes a rename or removal in the file's directory last.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn write_draft(
    draft: &Path,
    text: &[u8],
    mode: u32,
    modified: Option<SystemTime>,
) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(text)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    if let Some(modified) = modified {
        file.set_modified(modified)?;
    }
    file.sync_all()
}

/// A name beside a file's for what is to take its place.
pub(crate) fn draft_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{:016x}", crate::random::generator().u64(..)));
    Ok(parent(path).join(draft))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_text_and_mode_asked_for_and_no_draft_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_move_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"text", 0o644).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Why neither writing nor reading is done.
    fn refused(path: &Path) -> String {
        let written = replace(path, b"text", 0o644).unwrap_err().to_string();
        let read = open_own(path).unwrap_err().to_string();
        assert_eq!(written, read);
        written
    }

    #[test]
    fn a_symbolic_link_is_refused_and_its_target_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(refused(&link).contains("is a symbolic link"));
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_hard_link_is_refused_and_its_target_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "precious").unwrap();
        fs::hard_link(&target, &link).unwrap();
        assert!(refused(&link).contains("a hard link"));
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert!(refused(&pipe).contains("is no ordinary file"));
        assert!(refused(dir.path()).contains("is no ordinary file"));
    }

    #[test]
    fn a_directory_everybody_can_write_to_is_refused_unless_it_is_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let why = replace(&file, b"text", 0o644).unwrap_err().to_string();
        assert!(why.contains("can be written to by everybody"), "{why}");
        assert!(!file.exists());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        replace(&file, b"text", 0o644).unwrap();
    }

    #[test]
    fn what_a_killed_writer_left_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        let draft = draft_path(&path).unwrap();
        fs::write(&draft, "half").unwrap();
        for other in [
            ".subnet.env.backup",
            ".other.0123456789abcdef",
            "subnet.env",
        ] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(drafts(&path), [draft]);
    }
}
