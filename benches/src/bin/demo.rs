//! Shows the daemon at work: two nodes and two containers, pings, TCP, small packets, a table.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use benches::measure::{Metric, measure};
use benches::paths::flanneld_beside_this_program;
use benches::{Path, PathSpec, Profile, Side, interrupt};

/// What is shown, and how the table calls it.
const PATHS: [(&str, &str); 4] = [
    ("udp", "flanneld, UDP form"),
    ("vxlan", "flanneld, VXLAN form"),
    ("kernel-vxlan", "kernel VXLAN"),
    ("plain", "plain routing"),
];
const METRICS: [Metric; 3] = [Metric::Iperf(1), Metric::Packets(64), Metric::RoundTrip];
/// The numbers of those metrics that the table has room for.
const COLUMNS: [&str; 3] = ["iperf1", "pps64", "rr_p50"];

fn main() -> ExitCode {
    match interrupt::leave_nothing().and_then(|()| run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    println!("Two nodes with a container each, in network namespaces of this machine.");
    let mut rows = Vec::new();
    for (name, title) in PATHS {
        match show(name, title)? {
            Some(numbers) => rows.push((title, numbers)),
            None => println!("  this kernel cannot do that, so it is left out"),
        }
    }
    println!(
        "\n{:<22} {:>12} {:>22} {:>18}",
        "", "TCP, Gbit/s", "64-byte packets, k/s", "round trip, µs"
    );
    for (title, [tcp, packets, round_trip]) in rows {
        println!("{title:<22} {tcp:>12.2} {packets:>22.0} {round_trip:>18.0}");
    }
    println!("\nOne short run on a machine that plays all the parts: compare rows, not machines.");
    println!("Everything that was set up is gone again.");
    Ok(())
}

/// Brings one path up, pings through it and measures it. Only the kernel's own paths may be missing.
fn show(name: &str, title: &str) -> io::Result<Option<[f64; 3]>> {
    println!("\n{title}");
    let spec: PathSpec = name.parse().map_err(io::Error::other)?;
    let path = match Path::up(&spec, Profile::Offload, &flanneld_beside_this_program()?) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
        other => other?,
    };
    ping(&path)?;
    let mut numbers = Vec::new();
    for metric in METRICS {
        let readings = measure(&path, metric, Side::A, Duration::from_secs(2))?;
        numbers.extend(
            readings
                .into_iter()
                .filter(|reading| COLUMNS.contains(&reading.name.as_str())),
        );
    }
    Ok(numbers
        .iter()
        .map(|reading| reading.value)
        .collect::<Vec<_>>()
        .try_into()
        .ok())
}

fn ping(path: &Path) -> io::Result<()> {
    let ((near, source), (_, target)) = (path.container(Side::A), path.container(Side::B));
    println!("  container {source} pings container {target}");
    let answer = near.run(&format!("ping -c 3 -i 0.2 {target}"))?;
    let answers = answer.lines().filter(|line| line.contains("time="));
    answers.for_each(|line| println!("  {line}"));
    Ok(())
}
