//! Files that are replaced whole: a reader sees the old text or the new one, never a part, whatever happens in between.

use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Writes a file with the given permission bits beside its place and moves it there.
pub(crate) fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_path(path)?;
    let moved = write_draft(&draft, text, mode).and_then(|()| fs::rename(&draft, path));
    if moved.is_err() {
        // The first error is the one worth telling; a draft that was never made cannot be removed.
        let _ = fs::remove_file(&draft);
    }
    moved?;
    sync_directory(path)
}

/// Refuses a file that is a link or that someone else owns: it may be somebody's trap.
pub(crate) fn refuse_foreign(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let why = match found {
        _ if found.file_type().is_symlink() => "is a symbolic link",
        _ if !found.is_file() => "is no ordinary file",
        _ if found.uid() != geteuid().as_raw() => "belongs to another user",
        _ => return Ok(()),
    };
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} {why}; remove it first", path.display()),
    ))
}

/// Makes a rename or removal in the file's directory last.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn write_draft(draft: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(text)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn draft_path(path: &Path) -> io::Result<PathBuf> {
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

    #[test]
    fn links_and_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nowhere", &link).unwrap();
        assert!(
            refuse_foreign(&link)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        assert!(refuse_foreign(dir.path()).is_err());
        assert!(refuse_foreign(&dir.path().join("absent")).is_ok());
    }
}
