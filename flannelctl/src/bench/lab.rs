//! Measures in namespaces of this machine.

use std::io;
use std::path::PathBuf;

use benches::measure::Subject;
use benches::paths::flanneld_beside_this_program;
use benches::report::Report;
use benches::run::{Lane, Progress, REFERENCES, Run};
use benches::{PathSpec, Profile, preflight};

use super::{announcement, choice};
use crate::args::Bench;

const SETTING: &str = "Both nodes, the daemons and both ends of the traffic share this machine.";

/// All paths are up all the time: what dozens of idle daemons do every few seconds would be measured too.
const LEAVE_RULES_ALONE: &str = "iptables-resync=3600";

/// The daemons' programs.
struct Programs {
    flanneld: PathBuf,
    stock: Option<PathBuf>,
}

pub(super) fn measure(arguments: &Bench) -> io::Result<Report> {
    preflight::check()?;
    let programs = Programs::of(arguments)?;
    let usual = || REFERENCES.map(str::to_owned).into();
    let references: Vec<_> = arguments.references.clone().unwrap_or_else(usual);
    let mut report = Report::new(&references, SETTING);
    report.machine.add_version("flanneld", &programs.flanneld);
    if let Some(stock) = &programs.stock {
        report.machine.add_version("stock", stock);
    }
    let plan = choice(arguments).plan();
    let total = plan.cost() * arguments.profiles.len() as u32;
    let progress = Progress::new(total, arguments.quiet);
    let names: Vec<_> = arguments
        .profiles
        .iter()
        .map(|profile| profile.name())
        .collect();
    progress.say(&announcement(&plan, &names.join(", "), total));
    let mut run = Run {
        plan: &plan,
        report: &mut report,
        progress,
    };
    for profile in &arguments.profiles {
        run.measure(profile.name(), |lane| programs.bring_up(lane, *profile));
    }
    run.progress.finish();
    Ok(report)
}

impl Programs {
    /// Those that were named, or are usual.
    fn of(arguments: &Bench) -> io::Result<Self> {
        let beside = flanneld_beside_this_program;
        Ok(Self {
            flanneld: arguments.flanneld.clone().map_or_else(beside, Ok)?,
            stock: arguments.stock.clone(),
        })
    }

    fn bring_up(&self, lane: &Lane, profile: Profile) -> io::Result<Box<dyn Subject>> {
        let mut spec: PathSpec = lane.name.parse().map_err(io::Error::other)?;
        if spec.has_daemon() {
            spec.options.push(LEAVE_RULES_ALONE.to_owned());
        }
        let stock = || {
            let why = "--stock FILE says where the stock daemon is";
            self.stock.as_ref().ok_or_else(|| io::Error::other(why))
        };
        let (program, flag) = match spec.has_stock() {
            true => (stock()?, "--stock"),
            false => (&self.flanneld, "--flanneld"),
        };
        if spec.has_daemon() && !program.is_file() {
            let program = program.display();
            let why = format!("there is no program {program}: {flag} FILE names another");
            return Err(io::Error::other(why));
        }
        Ok(Box::new(benches::Path::up(&spec, profile, program)?))
    }
}
