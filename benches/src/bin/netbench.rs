//! Runs traffic through a set of paths and prints how they compare.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::measure::{Metric, measure};
use benches::paths::flanneld_beside_this_program;
use benches::report::Report;
use benches::{Path, PathSpec, Profile, Side, interrupt};
use clap::Parser;

/// Builds two nodes with a container each in network namespaces and measures what connects them.
#[derive(Parser, Debug)]
struct Arguments {
    /// Underlay profiles: offload, wire, wiregro
    #[arg(long, value_delimiter = ',', default_value = "offload")]
    profiles: Vec<Profile>,
    /// plain, kernel-vxlan, one-packet, udp, vxlan, mixed-vxlan, mixed-udp; +option for the daemon
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "plain,kernel-vxlan,one-packet,udp,vxlan"
    )]
    paths: Vec<PathSpec>,
    /// tcpN, iperfN, ppsBYTES, floodBYTES, maxBYTES, rr, rrgap, memory
    #[arg(long, value_delimiter = ',', default_value = "tcp1,pps64,rr")]
    metrics: Vec<Metric>,
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    repeats: u32,
    /// Seconds per measurement
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The paths the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "kernel-vxlan")]
    references: Vec<String>,
    /// Send from side B to side A
    #[arg(long)]
    backward: bool,
    /// The daemon's program, when it is not beside this one
    #[arg(long)]
    flanneld: Option<PathBuf>,
    /// Write a page with the tables, and all numbers, into this directory
    #[arg(long)]
    save: Option<PathBuf>,
    /// No progress on the error output
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match interrupt::leave_nothing().and_then(|()| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netbench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let mut report = Report::new(&arguments.references);
    for profile in &arguments.profiles {
        measure_profile(arguments, *profile, &mut report)?;
    }
    println!("{}", report.markdown());
    arguments
        .save
        .as_deref()
        .map_or(Ok(()), |directory| report.save(directory))
}

/// Brings every path up once and measures them in turn, so that a repeat's numbers are neighbours.
fn measure_profile(arguments: &Arguments, profile: Profile, report: &mut Report) -> io::Result<()> {
    let flanneld = arguments
        .flanneld
        .clone()
        .map_or_else(flanneld_beside_this_program, Ok)?;
    let mut paths = Vec::new();
    for spec in &arguments.paths {
        match Path::up(spec, profile, &flanneld) {
            Ok(path) => paths.push(path),
            Err(error) => eprintln!("netbench: {profile}: left out `{spec}`: {error}"),
        }
    }
    for repeat in 0..arguments.repeats {
        for path in &paths {
            for metric in &arguments.metrics {
                progress(arguments, profile, path, *metric, repeat);
                add(arguments, profile, path, *metric, repeat, report)?;
            }
        }
    }
    Ok(())
}

fn add(
    arguments: &Arguments,
    profile: Profile,
    path: &Path,
    metric: Metric,
    repeat: u32,
    report: &mut Report,
) -> io::Result<()> {
    let from = if arguments.backward { Side::B } else { Side::A };
    let readings = measure(
        path,
        metric,
        from,
        Duration::from_secs_f64(arguments.seconds),
    );
    let name = &path.spec().name;
    let explain = |error| {
        io::Error::other(format!(
            "{profile}, {name}, {metric:?}: {error}\n{}",
            path.logs()
        ))
    };
    report.add(profile.name(), name, repeat, readings.map_err(explain)?);
    Ok(())
}

fn progress(arguments: &Arguments, profile: Profile, path: &Path, metric: Metric, repeat: u32) {
    if !arguments.quiet {
        let (repeats, path) = (arguments.repeats, path.spec());
        eprint!(
            "\r\x1b[K{profile} {}/{repeats} {path} {metric:?}",
            repeat + 1
        );
        if repeat + 1 == repeats {
            eprint!("\r\x1b[K");
        }
    }
}
