//! The command line and environment by the rules flannel users know, turned into words that clap knows.
//!
//! Flags have one dash or two, `-name value` or `-name=value`; a flag that is on or off takes its value only
//! after `=`; parsing stops at the first other word. What the command line does not give may come from
//! `FLANNELD_` and the flag's name in capitals, unless that is empty.

use crate::args::Args;
use clap::{Arg, CommandFactory, Parser};
use std::collections::BTreeSet;
use std::fmt;

/// The outcome: words for clap, and what was left out, to be told when there is a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) flags: Vec<String>,
    pub(crate) remarks: Vec<String>,
}

/// A flag that may not be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Flags that flannel has had, with what to do instead. Taking them in silence would promise what is not kept.
const NOT_HERE: [(&str, &str); 3] = [
    ("charon-executable-path", NO_IPSEC),
    ("charon-viciuri", NO_IPSEC),
    ("subnet-dir", "use --subnet-file"),
];
const NO_IPSEC: &str = "the ipsec backend is not served: leave the flag out";

/// Words that leave a flag as good as not given.
const OFF: [&str; 7] = ["0", "f", "F", "false", "FALSE", "False", ""];

/// What only makes sense when typed.
const TYPED_ONLY: [&str; 4] = ["version", "help", "dry-run", "release-lease"];

/// Reads the words after the program's name, then the environment.
pub(crate) fn effective(
    words: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Words, Refused> {
    let flags = Flags::new();
    let mut reader = Reader {
        flags: &flags,
        out: vec!["flanneld".to_owned()],
        given: BTreeSet::new(),
    };
    let ignored = reader.read(words)?;
    let mut remarks = Vec::new();
    if !ignored.is_empty() {
        let ignored = ignored.join(" ");
        remarks.push(format!(
            "ignoring everything from the first word that is no flag: {ignored}"
        ));
    }
    for name in flags.settable_from_environment() {
        let variable = format!("FLANNELD_{}", name.replace('-', "_").to_uppercase());
        let value = env(&variable).filter(|value| !value.is_empty());
        if let Some(value) = value.filter(|_| !reader.given.contains(name)) {
            match usable(name, &value) {
                Ok(()) => reader.set(name, &value)?,
                Err(why) => remarks.push(format!(
                    "Failed to set flag --{name} from {variable}, going on without it: {why}"
                )),
            }
        }
    }
    Ok(Words {
        flags: reader.out,
        remarks,
    })
}

/// Whether a flag takes this value. One in the environment that is not taken must not keep the daemon from starting.
fn usable(name: &str, value: &str) -> Result<(), String> {
    let known = NOT_HERE.iter().any(|(other, _)| *other == name);
    match Args::try_parse_from(["flanneld", &format!("--{name}={value}")]) {
        Err(error) if !known => {
            let told = error.to_string();
            let first = told.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").to_owned())
        }
        _ => Ok(()),
    }
}

/// What clap knows about the flags.
struct Flags(Vec<(String, bool)>);

impl Flags {
    fn new() -> Self {
        let of_arg = |arg: &Arg| arg.get_long().map(|name| (name.to_owned(), is_switch(arg)));
        Self(Args::command().get_arguments().filter_map(of_arg).collect())
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, switch)| *switch)
    }

    fn settable_from_environment(&self) -> impl Iterator<Item = &str> {
        let names = self
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !TYPED_ONLY.contains(name));
        names.chain(NOT_HERE.iter().map(|(name, _)| *name))
    }
}

fn is_switch(arg: &Arg) -> bool {
    arg.is_require_equals_set() || !arg.get_action().takes_values()
}

struct Reader<'a> {
    flags: &'a Flags,
    out: Vec<String>,
    given: BTreeSet<String>,
}

impl Reader<'_> {
    /// Reads words up to the first that is no flag; returns that one and the rest.
    fn read(&mut self, mut words: impl Iterator<Item = String>) -> Result<Vec<String>, Refused> {
        while let Some(word) = words.next() {
            let Some(flag) = flag(&word) else {
                let first = (word != "--").then_some(word);
                return Ok(first.into_iter().chain(words).collect());
            };
            match flag.split_once('=') {
                Some((name, value)) => self.set(name, value)?,
                None if self.takes_next_word(flag) => match words.next() {
                    Some(value) => self.set(flag, &value)?,
                    None => return Err(Refused(format!("flag needs a value: --{flag}"))),
                },
                None => self.set_bare(flag)?,
            }
        }
        Ok(Vec::new())
    }

    fn takes_next_word(&self, name: &str) -> bool {
        self.flags.switch(name) == Some(false)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        self.given.insert(name.to_owned());
        if let Some((_, instead)) = NOT_HERE.iter().find(|(known, _)| *known == name) {
            return if OFF.contains(&value) {
                Ok(())
            } else {
                Err(not_yet(name, instead))
            };
        }
        if value.is_empty() && self.takes_next_word(name) {
            self.unset(name);
        } else {
            self.out.push(format!("--{name}={value}"));
        }
        Ok(())
    }

    /// An empty value is as good as none, as when the variable of a unit file is empty.
    fn unset(&mut self, name: &str) {
        let start = format!("--{name}=");
        self.out.retain(|word| !word.starts_with(&start));
    }

    fn set_bare(&mut self, name: &str) -> Result<(), Refused> {
        self.given.insert(name.to_owned());
        if let Some((_, instead)) = NOT_HERE.iter().find(|(known, _)| *known == name) {
            return Err(not_yet(name, instead));
        }
        let name = if name == "h" { "help" } else { name };
        self.out.push(format!("--{name}"));
        Ok(())
    }
}

fn not_yet(name: &str, instead: &str) -> Refused {
    Refused(format!(
        "--{name} is not available in this build; {instead}"
    ))
}

/// The flag in a word: what follows its dashes.
fn flag(word: &str) -> Option<&str> {
    let rest = word.strip_prefix('-')?;
    let name = rest.strip_prefix('-').unwrap_or(rest);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, env: &[(&str, &str)]) -> Result<Words, Refused> {
        let lookup = |name: &str| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        effective(line.split_whitespace().map(str::to_owned), lookup)
    }

    fn flags(line: &str, env: &[(&str, &str)]) -> String {
        read(line, env).unwrap().flags[1..].join(" ")
    }

    #[test]
    fn one_dash_and_two_are_alike_and_so_are_blank_and_equals() {
        for line in ["-iface eth0", "--iface eth0", "-iface=eth0", "--iface=eth0"] {
            assert_eq!(flags(line, &[]), "--iface=eth0", "{line}");
        }
    }

    #[test]
    fn a_switch_takes_its_value_only_after_equals() {
        assert_eq!(flags("-pin=false", &[]), "--pin=false");
        let words = read("-pin false -iface eth0", &[]).unwrap();
        assert_eq!(words.flags[1..], ["--pin"]);
        let ignored = "ignoring everything from the first word that is no flag: false -iface eth0";
        assert_eq!(words.remarks, [ignored]);
    }

    #[test]
    fn a_value_may_start_with_a_dash() {
        assert_eq!(flags("-v -1", &[]), "--v=-1");
    }

    #[test]
    fn the_environment_gives_what_the_command_line_does_not() {
        let env = [
            ("FLANNELD_IFACE", "eth1"),
            ("FLANNELD_SUBNET_FILE", ""),
            ("FLANNELD_V", "2"),
            ("FLANNELD_VERSION", "true"),
        ];
        assert_eq!(flags("--iface=eth0", &env), "--iface=eth0 --v=2");
        assert_eq!(flags("", &env), "--iface=eth1 --v=2");
    }

    #[test]
    fn an_empty_value_is_as_good_as_none() {
        assert_eq!(flags("-public-ip= -etcd-cafile= -iface=", &[]), "");
        assert_eq!(flags("-public-ip=1.2.3.4 -public-ip=", &[]), "");
        let env = [("FLANNELD_PUBLIC_IP", "1.2.3.4")];
        assert_eq!(flags("-public-ip=", &env), "");
    }

    #[test]
    fn a_bad_value_in_the_environment_is_told_and_passed_over() {
        let env = [("FLANNELD_HEALTHZ_PORT", "http"), ("FLANNELD_V", "2")];
        let words = read("", &env).unwrap();
        assert_eq!(words.flags[1..], ["--v=2"]);
        let remark = "Failed to set flag --healthz-port from FLANNELD_HEALTHZ_PORT, \
                      going on without it: invalid value 'http' for '--healthz-port <PORT>'";
        assert!(words.remarks[0].starts_with(remark), "{words:?}");
    }

    #[test]
    fn flags_of_the_past_are_refused_unless_empty() {
        let refusal = read("-subnet-dir=/d", &[]).unwrap_err().to_string();
        assert!(
            refusal.starts_with("--subnet-dir is not available in this build; "),
            "{refusal}"
        );
        assert!(read("", &[("FLANNELD_SUBNET_DIR", "/d")]).is_err());
        assert_eq!(flags("-subnet-dir=", &[]), "");
    }

    #[test]
    fn a_flag_without_its_value_is_refused() {
        assert_eq!(
            read("--iface", &[]).unwrap_err().to_string(),
            "flag needs a value: --iface"
        );
    }
}
