//! A machine's own root on top of this one's, for what a package installs: everything is there and may be changed, and
//! nothing of it stays. Its processes are in a namespace of their own and end with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use benches::namespace::Namespace;

use super::scene::Answer;

/// What becomes the root's first process.
const BUILD: &str = r#"
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc none proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs none run
mount -t tmpfs none tmp
mkdir -p run/lock
echo ready
exec sleep infinity
"#;

/// The root, as long as it lives.
pub(crate) struct Root {
    first: Child,
    inside: u32,
    place: PathBuf,
    node: Namespace,
}

impl Root {
    /// For the machine whose network this is, in an empty directory.
    pub(crate) fn new(node: &Namespace, place: PathBuf) -> Self {
        fs::create_dir(&place).unwrap();
        let mut first = Command::new("unshare");
        first.args([
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        first.args(["sh", "-c", BUILD, "root"]).arg(&place);
        let mut first = first.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let out = first.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let id = first.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Self {
            first,
            inside: children.trim().parse().unwrap(),
            place,
            node: node.share().unwrap(),
        }
    }

    /// A command line for a shell that runs inside.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = self.node.command("nsenter").unwrap();
        command
            .arg(format!("--target={}", self.inside))
            .args(["--mount", "--pid", "chroot"])
            .arg(self.place.join("root"))
            .args(["/bin/sh", "-c", line])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env_remove("TMPDIR");
        command
    }

    /// Runs a command line inside, however it ends.
    pub(crate) fn ask(&self, line: &str) -> Answer {
        self.command(line).output().unwrap().into()
    }

    /// Runs a command line inside that must do well, and says what it said.
    pub(crate) fn run(&self, line: &str) -> String {
        let answer = self.ask(line);
        assert_eq!(answer.code, 0, "{line}: {answer:?}");
        answer.out
    }

    /// Asks until the answer is as wanted.
    pub(crate) fn wait_for(&self, line: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        super::scene::patiently(|| line.to_owned(), || self.ask(line), wanted)
    }

    /// Installs a package, and says what that said.
    pub(crate) fn install(&self, package: &Path) -> String {
        let line = "cat > /tmp/package.deb && dpkg --install /tmp/package.deb";
        let file = fs::File::open(package).unwrap();
        let answer: Answer = self.command(line).stdin(file).output().unwrap().into();
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    }

    /// Writes a file inside.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let quoted = text.replace('\'', r"'\''");
        self.run(&format!("printf %s '{quoted}' > {path}"));
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // With the first process everything inside ends, and what was mounted goes with the last.
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}
