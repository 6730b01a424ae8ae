//! Paths, TCP ports and other processes, by Landlock: rules a thread lays on itself without any privilege.
#![allow(unsafe_code, reason = "asks the kernel for a version")]

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::io;
use std::path::PathBuf;

/// The newest rules this was tried with; an older kernel applies those it knows.
const RULES: ABI = ABI::V6;

/// What is within a thread's reach; what was opened before stays open.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// What lies beneath can be read, and run.
    pub read: Vec<PathBuf>,
    /// What lies beneath can be read and changed.
    pub write: Vec<PathBuf>,
    /// TCP ports that can be connected to; `None` for all.
    pub connect: Option<Vec<u16>>,
    /// No signal reaches a process outside, nor a connection an abstract socket there.
    pub apart: bool,
}

/// How much of it the kernel saw to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// All of it.
    Fully,
    /// Files, but not ports or processes, which are newer.
    Partly,
    /// Nothing: this kernel has no Landlock, or it is switched off.
    Not,
}

/// The version of the rules this kernel knows; `None` where it has none, or they are switched off.
pub fn known() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: asked for the version the call takes no memory.
    let known =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    u32::try_from(known).ok()
}

/// The version this was tried with.
pub const TRIED: u32 = RULES as u32;

/// Leaves the calling thread, and those it starts from now on, no more than this.
pub fn limit(reach: &Reach) -> io::Result<Enforced> {
    restrict(reach).map_err(io::Error::other)
}

fn restrict(reach: &Reach) -> Result<Enforced, RulesetError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(RULES))?;
    if reach.connect.is_some() {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    if reach.apart {
        let scopes: BitFlags<Scope> = Scope::Signal | Scope::AbstractUnixSocket;
        rules = rules.scope(scopes)?;
    }
    let ports = reach.connect.iter().flatten();
    let ports = ports.map(|&port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    let status = rules
        .create()?
        .add_rules(path_beneath_rules(&reach.read, AccessFs::from_read(RULES)))?
        .add_rules(path_beneath_rules(&reach.write, AccessFs::from_all(RULES)))?
        .add_rules(ports)?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::thread;

    /// Acts within a reach, on a thread of its own.
    fn within<T: Send + 'static>(reach: Reach, act: impl FnOnce() -> T + Send + 'static) -> T {
        let limited = move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert_eq!(limit(&reach).unwrap(), Enforced::Fully);
            act()
        };
        thread::spawn(limited).join().unwrap()
    }

    fn denied<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == PermissionDenied)
    }

    #[test]
    fn what_may_be_read_cannot_be_written_and_the_rest_neither() {
        let places = tempfile::tempdir().unwrap();
        let place = |name: &str| places.path().join(name);
        for name in ["read", "write", "other"] {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("file"), name).unwrap();
        }
        let reach = Reach {
            read: vec![place("read")],
            write: vec![place("write")],
            ..Reach::default()
        };
        let [read, write, other] = ["read", "write", "other"].map(|name| place(name).join("file"));
        let replace = |path: &Path| {
            let draft = path.with_extension("draft");
            fs::write(&draft, "new").and_then(|()| fs::rename(&draft, path))
        };
        within(reach, move || {
            assert_eq!(fs::read_to_string(&read).unwrap(), "read");
            assert!(denied(fs::write(&read, "new")) && denied(fs::remove_file(&read)));
            replace(&write).unwrap();
            assert_eq!(fs::read_to_string(&write).unwrap(), "new");
            assert!(denied(File::open(&other)) && denied(fs::write(&other, "new")));
        });
    }

    #[test]
    fn a_file_that_is_open_stays_open() {
        let mut file = tempfile::tempfile().unwrap();
        let written = within(Reach::default(), move || {
            io::Write::write_all(&mut file, b"still")
        });
        written.unwrap();
    }

    #[test]
    fn only_the_ports_named_are_connected_to() {
        let open = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (named, other) = (open(), open());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let reach = Reach {
            connect: Some(vec![port(&named)]),
            ..Reach::default()
        };
        let [named, other] = [&named, &other].map(|one| one.local_addr().unwrap());
        within(reach, move || {
            assert!(!denied(TcpStream::connect(named)));
            assert!(denied(TcpStream::connect(other)));
        });
    }
}
