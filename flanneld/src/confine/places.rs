//! Which files and ports the daemon has to do with, by its settings.

use super::legacy;
use crate::settings::{Settings, Store};
use control::registry::kube;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io;
use sandbox::capabilities::{self, Capabilities};
use sandbox::files::Reach;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Programs and what they read, and what tells of the host.
const SYSTEM: [&str; 17] = [
    "/bin",
    "/dev/random",
    "/dev/urandom",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/opt",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/sss",
    "/var/run",
];
/// What `flannel0` is made with.
const DEVICE: &str = "/dev/net/tun";
/// What is changed while the host is set up.
const CHANGED: [&str; 4] = [DEVICE, "/dev/null", "/proc/sys/net", legacy::LOCK];
/// Where names that do not fit into a datagram are looked up.
const NAME_SERVICE: u16 = 53;

/// What the settings name.
pub(super) struct Places {
    /// Files that are read, also anew when they were replaced.
    files: Vec<PathBuf>,
    /// Directories in which files are written.
    directories: Vec<PathBuf>,
    /// What may be there already, of whatever user.
    found: Found,
    /// TCP ports of other hosts; `None` where they cannot be told.
    ports: Option<Vec<u16>>,
}

impl Places {
    pub(super) fn of(settings: &Settings) -> Self {
        let mut files = Vec::new();
        let written = [
            Some(&settings.subnet_file),
            settings.state_file.as_ref(),
            settings.control_socket.as_ref(),
            Some(&settings.door),
        ];
        let mut found = Found {
            written: vec![DEVICE.into()],
            ..Found::default()
        };
        let mut directories: Vec<_> = written
            .into_iter()
            .flatten()
            .map(|file| parent(file))
            .collect();
        let ports = match &settings.store {
            Store::File { dir, config, .. } => {
                directories.extend([dir.clone(), dir.join("subnets")]);
                files.extend(config.clone());
                found.add_store(dir);
                Some(Vec::new())
            }
            Store::Kube(options) => {
                files.push(options.net_config.clone());
                files.extend(kube::files(options));
                let url = options.place();
                [port(&url), Some(NAME_SERVICE)].into_iter().collect()
            }
            Store::Etcd(options) => {
                files.extend(options.ca_file.clone());
                files.extend(
                    options
                        .identity
                        .iter()
                        .flat_map(|(certificate, key)| [certificate.clone(), key.clone()]),
                );
                let ports = options.endpoints.iter().map(|endpoint| port(endpoint));
                ports.chain([Some(NAME_SERVICE)]).collect()
            }
        };
        Self {
            files,
            directories: directories
                .iter()
                .map(|directory| standing(directory))
                .collect(),
            found,
            ports,
        }
    }

    /// What these capabilities leave out of reach, in capabilities that bring it back; told, as there is a better cure.
    pub(super) fn out_of_reach(&self, kept: Capabilities) -> io::Result<Capabilities> {
        let missing = |paths: &[PathBuf], access| {
            let denied = |path: &&PathBuf| {
                accessat(CWD, *path, access, AtFlags::EACCESS) == Err(io::Errno::ACCESS)
            };
            paths.iter().filter(denied).cloned().collect::<Vec<_>>()
        };
        let [unreadable, unwritable] = capabilities::with_only(kept, || {
            [
                missing(
                    &[&self.files[..], &self.found.read].concat(),
                    Access::READ_OK,
                ),
                missing(
                    &[&self.directories[..], &self.found.written].concat(),
                    Access::WRITE_OK,
                ),
            ]
        })?;
        let mut back = Capabilities::empty();
        for (paths, capability) in [
            (unreadable, Capabilities::DAC_READ_SEARCH),
            (unwritable, Capabilities::DAC_OVERRIDE),
        ] {
            for path in paths {
                warn!(
                    "{} belongs to another user, so more privileges are kept; give it to the daemon's",
                    path.display()
                );
                back |= capability;
            }
        }
        Ok(back)
    }

    /// All there is to do with files and ports.
    pub(super) fn reach(&self) -> Reach {
        // A file that is replaced is another one, in the same directory; a link leads into another.
        let homes = self.files.iter().flat_map(|file| {
            let real = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
            [parent(file), parent(&real)]
        });
        let path = env::var_os("PATH").unwrap_or_default();
        Reach {
            read: SYSTEM
                .into_iter()
                .map(PathBuf::from)
                .chain(env::split_paths(&path))
                .chain(homes)
                .collect(),
            write: CHANGED
                .into_iter()
                .map(PathBuf::from)
                .chain(self.directories.clone())
                .collect(),
            connect: self.ports.clone(),
            apart: false,
        }
    }
}

/// Files that others may have made, and that are looked into or written where they are.
#[derive(Debug, Default)]
struct Found {
    read: Vec<PathBuf>,
    written: Vec<PathBuf>,
}

impl Found {
    fn add_store(&mut self, dir: &Path) {
        let records = fs::read_dir(dir.join("subnets")).into_iter().flatten();
        let records = records.flatten().map(|record| record.path());
        self.read.extend(records.chain([dir.join("config")]));
        self.written.push(dir.join(".lock"));
    }
}

fn parent(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The directory, made where it is missing, or else what of its path there is.
fn standing(directory: &Path) -> PathBuf {
    // Whoever writes in it tells why it cannot be made.
    let _ = fs::create_dir_all(directory);
    let mut there = directory.ancestors().filter(|path| path.is_dir());
    there.next().map_or_else(|| "/".into(), Path::to_owned)
}

/// The port of a URL; `None` where it names none.
fn port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    let behind_host = authority.rsplit(']').next().unwrap_or_default();
    match (behind_host.rsplit_once(':'), scheme) {
        (Some((_, port)), _) => port.parse().ok(),
        (None, "http") => Some(80),
        (None, "https") => Some(443),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_endpoint_is_found_or_nothing_is_assumed() {
        let cases = [
            ("http://127.0.0.1:2379", Some(2379)),
            ("https://[fd00::1]:2379/", Some(2379)),
            ("https://[fd00::1]", Some(443)),
            ("http://etcd", Some(80)),
            ("10.0.0.1:4001", Some(4001)),
            ("etcd", None),
            ("http://etcd:many", None),
        ];
        for (url, expected) in cases {
            assert_eq!(port(url), expected, "{url}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_counts_as_what_there_is_of_it() {
        assert_eq!(standing(Path::new("/proc/no/such")), Path::new("/proc"));
    }
}
