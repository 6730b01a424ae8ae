//! What the delegate was given, one file an attachment, so that the same can be undone later.
//!
//! `eth0`, which is all a pod has as a rule, goes by the container alone, as in other versions of this plugin: either
//! undoes what the other did. Further interfaces of a container have files of their own.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, code};
use crate::request::Attachment;

const FIRST_INTERFACE: &str = "eth0";
/// In no container's id.
const SEPARATOR: char = '@';

/// The directory with the files.
#[derive(Debug)]
pub(crate) struct States<'a>(pub(crate) &'a Path);

impl States<'_> {
    /// Keeps a config, whole or not at all.
    pub(crate) fn save(&self, of: &Attachment, config: &str) -> Result<(), Error> {
        self.write(&name(of), config)
            .map_err(|error| self.explain("write", &error))
    }

    /// What was kept for an attachment, if anything.
    pub(crate) fn load(&self, of: &Attachment) -> Result<Option<String>, Error> {
        let own = self.read(&name(of))?;
        // Other versions of this plugin had one file for all interfaces.
        own.map_or_else(|| self.read(&of.container), |own| Ok(Some(own)))
    }

    /// Forgets what was kept for an attachment.
    pub(crate) fn forget(&self, of: &Attachment) -> Result<(), Error> {
        match fs::remove_file(self.0.join(name(of))) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.explain("remove", &error))
            }
            _ => Ok(()),
        }
    }

    /// Every attachment something is kept for.
    pub(crate) fn all(&self) -> Result<Vec<Attachment>, Error> {
        let entries = match fs::read_dir(self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.explain("list", &error))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut all: Vec<_> = names
            .filter_map(|name| attachment(name.to_str()?))
            .collect();
        all.sort();
        Ok(all)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.0)?;
        let draft = self.0.join(format!(".{name}.{}", std::process::id()));
        let moved = write_draft(&draft, text).and_then(|()| fs::rename(&draft, self.0.join(name)));
        if moved.is_err() {
            // The first error is the one worth telling.
            let _ = fs::remove_file(&draft);
        }
        moved?;
        File::open(self.0)?.sync_all()
    }

    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        match fs::read(self.0.join(name)) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.explain("read", &error)),
        }
    }

    fn explain(&self, what: &str, error: &io::Error) -> Error {
        let why = format!("cannot {what} a file in {}: {error}", self.0.display());
        let cure = "make it a directory of root's on a disk that is neither full nor read-only, or name another with dataDir";
        Error::new(code::IO, why).cure(cure)
    }
}

fn write_draft(draft: &PathBuf, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn name(of: &Attachment) -> String {
    match of.interface.as_str() {
        FIRST_INTERFACE => of.container.clone(),
        other => format!("{}{SEPARATOR}{other}", of.container),
    }
}

/// The attachment behind a file's name; drafts have none.
fn attachment(name: &str) -> Option<Attachment> {
    let (container, interface) = name
        .split_once(SEPARATOR)
        .unwrap_or((name, FIRST_INTERFACE));
    Attachment::new(container.to_owned(), interface.to_owned()).ok()
}
