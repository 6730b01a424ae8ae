//! One manual page of a command.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::fs;
use std::io;
use std::path::Path;

/// What pages of a kind have in common.
pub(crate) struct Page<'a> {
    pub(crate) section: &'static str,
    /// Other pages to look at.
    pub(crate) more: &'a [&'a str],
}

impl Page<'_> {
    /// Writes the page of a command.
    pub(crate) fn write(&self, command: Command, directory: &Path) -> io::Result<()> {
        let after = command.get_after_help().map(ToString::to_string);
        let below = command.has_subcommands();
        let man = Man::new(command)
            .section(self.section)
            .manual("flannel")
            .source(concat!("flannel ", env!("CARGO_PKG_VERSION")));
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if below {
            man.render_subcommands_section(&mut text)?;
        }
        if let Some(after) = after {
            notes(&after).to_writer(&mut text)?;
        }
        see_also(self.more).to_writer(&mut text)?;
        fs::write(directory.join(man.get_filename()), text)
    }
}

/// What `--help` ends with: paragraphs, and what is to be typed, as it stands.
fn notes(text: &str) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["NOTES"]);
    let mut typed = false;
    for line in text.lines() {
        let verbatim = line.starts_with("  ");
        if verbatim != typed {
            roff.control(if verbatim { "nf" } else { "fi" }, []);
            typed = verbatim;
        }
        match line.trim_end() {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
    if typed {
        roff.control("fi", []);
    }
    roff
}

/// Where more is to be read.
pub(crate) fn see_also(pages: &[&str]) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
    roff
}
