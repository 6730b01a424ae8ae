//! What a program finds: the kernel it runs on, without what is refused.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use super::{Refusal, deprive};
use crate::namespace::Namespace;

/// Shows one directory in the place of another, and becomes the program.
const SHOW: &str = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";

/// A kernel, or a sandbox, that is less than the one these programs run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    refusals: Vec<Refusal>,
    /// What is put before the program: programs that take something away and become the next.
    before: Vec<String>,
}

impl Kernel {
    /// A kernel that has everything.
    pub fn whole() -> Self {
        Self::default()
    }

    /// One more kind of call is refused.
    pub fn refusing(mut self, refusal: Refusal) -> Self {
        self.refusals.push(refusal);
        self
    }

    /// As root with no capabilities but these.
    pub fn with_capabilities(self, names: &[&str]) -> Self {
        let bounding = format!("--bounding-set={}", and_no_others(names));
        self.behind(&["setpriv", &bounding, "--inh-caps=-all"])
    }

    /// As another user than root, with these capabilities.
    pub fn as_user(self, id: u32, names: &[&str]) -> Self {
        let all = and_no_others(names);
        self.behind(&[
            "setpriv",
            &format!("--reuid={id}"),
            &format!("--regid={id}"),
            "--clear-groups",
            // A change of user would make the kernel forget it.
            "--pdeathsig=KILL",
            &format!("--inh-caps={all}"),
            &format!("--ambient-caps={all}"),
            &format!("--bounding-set={all}"),
        ])
    }

    /// With one directory in the place of another.
    pub fn with_directory(self, shown: &Path, place: &Path) -> Self {
        let [shown, place] = [shown, place].map(|path| path.to_string_lossy());
        self.behind(&["unshare", "--mount", "sh", "-c", SHOW, "sh", &shown, &place])
    }

    /// On these processors alone.
    pub fn on_processors(self, processors: Range<usize>) -> Self {
        // A machine with one has none for the first half.
        let last = processors.end.max(processors.start + 1) - 1;
        self.behind(&[
            "taskset",
            "--cpu-list",
            &format!("{}-{last}", processors.start),
        ])
    }

    fn behind(mut self, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned());
        self.before.extend(words);
        self
    }

    /// A command that will run inside a namespace on such a kernel.
    pub fn command(&self, namespace: &Namespace, program: &Path) -> io::Result<Command> {
        let program = program.to_string_lossy().into_owned();
        let mut words = self.before.iter().cloned().chain([program]);
        let mut command = namespace.command(&words.next().unwrap_or_default())?;
        command.args(words);
        deprive(&mut command, &self.refusals)?;
        Ok(command)
    }
}

fn and_no_others(names: &[&str]) -> String {
    let added = names.iter().map(|name| format!(",+{name}"));
    "-all".to_owned() + &added.collect::<String>()
}
