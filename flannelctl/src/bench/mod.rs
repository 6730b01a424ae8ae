//! `flannelctl bench`: from what was typed to a report.

mod between;
mod lab;
mod list;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::interrupt;
use benches::report::{Comparison, Report};
use benches::run::{Choice, Plan, REFERENCES, human};

use crate::args::{Bench, Compare, Other};

/// Does what the flags say.
pub(crate) fn run(arguments: &Bench) -> io::Result<()> {
    match &arguments.other {
        Some(Other::Serve(arguments)) => return between::serve(arguments),
        Some(Other::Compare(arguments)) => return compare(arguments),
        None => {}
    }
    if arguments.list {
        print!("{}", list::everything());
        return Ok(());
    }
    interrupt::leave_nothing()?;
    let here = Path::new(".");
    must_be_writable(arguments.output.as_deref().unwrap_or(here))?;
    let report = match &arguments.between {
        Some(host) => between::measure(arguments, host)?,
        None => lab::measure(arguments)?,
    };
    finish(arguments, &report)
}

fn compare(arguments: &Compare) -> io::Result<()> {
    let (before, after) = (
        Report::read(&arguments.before)?,
        Report::read(&arguments.after)?,
    );
    print!("{}", Comparison::of(&before, &after, arguments.limit));
    Ok(())
}

/// Finds out before a quarter of an hour has passed; leaves no directory for a run that is interrupted.
fn must_be_writable(directory: &Path) -> io::Result<()> {
    let explain = |error| {
        let directory = directory.display();
        io::Error::other(format!(
            "cannot write to {directory}: {error}; --output DIR names another place"
        ))
    };
    fs::create_dir_all(directory).map_err(explain)?;
    let probe = directory.join(".flannelctl");
    fs::write(&probe, "").map_err(explain)?;
    fs::remove_file(&probe)?;
    // One with earlier reports in it stays.
    let _ = fs::remove_dir(directory);
    Ok(())
}

/// What the flags choose, and what is usual for the rest.
fn choice(arguments: &Bench) -> Choice {
    let asked = arguments.references.as_ref();
    let first = asked.map_or(Some(REFERENCES[0]), |asked| {
        asked.first().map(String::as_str)
    });
    Choice {
        quick: arguments.quick,
        stock: arguments.stock.is_some(),
        paths: arguments.paths.clone(),
        metrics: arguments.metrics.clone(),
        repeats: arguments.repeats,
        duration: arguments.seconds.map(Duration::from_secs_f64),
        anchor: first.map(str::to_owned),
    }
}

fn announcement(plan: &Plan, settings: &str, total: Duration) -> String {
    let (paths, repeats) = (plan.lanes.len(), plan.repeats());
    let total = human(total);
    format!("{settings}: {paths} paths, up to {repeats} repeats, about {total}")
}

/// Prints the tables, and writes everything where it was asked for.
fn finish(arguments: &Bench, report: &Report) -> io::Result<()> {
    if report.records.is_empty() {
        let mut reasons: Vec<_> = report
            .refused
            .iter()
            .map(|refusal| refusal.reason.as_str())
            .collect();
        reasons.dedup();
        let reasons = reasons.join("\n  ");
        return Err(io::Error::other(format!(
            "nothing could be measured:\n  {reasons}"
        )));
    }
    let directory = arguments
        .output
        .clone()
        .unwrap_or_else(|| by_date(&report.machine.date));
    report.save(&directory)?;
    println!("{}", report.markdown());
    println!(
        "The report with plots and raw numbers: {}/README.md",
        directory.display()
    );
    Ok(())
}

/// `flannel-bench-2026-11-20-1305`.
fn by_date(date: &str) -> PathBuf {
    let date = date.trim_end_matches(" UTC");
    let date = date.replace(' ', "-").replace(':', "");
    PathBuf::from(format!("flannel-bench-{date}"))
}
