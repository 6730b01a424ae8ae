//! Runs traffic, changes, restarts and faults together, and tells what came of it.
//!
//! `soak [MINUTES [PATH]]`; the daemon is the one beside this program, or what `FLANNELD` names.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::paths::flanneld_beside_this_program;
use benches::{interrupt, soak};

const MINUTES: u64 = 60;
const RESTART_EVERY: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match interrupt::leave_nothing().and_then(|()| run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let flanneld = match env::var_os("FLANNELD") {
        Some(program) => PathBuf::from(program),
        None => flanneld_beside_this_program()?,
    };
    let mut words = env::args().skip(1);
    let minutes = words.next().map_or(Ok(MINUTES), |word| word.parse());
    let minutes = minutes.map_err(|_| io::Error::other("usage: soak [MINUTES [PATH]]"))?;
    let name = words.next().unwrap_or_else(|| "vxlan".to_owned());
    let spec = name.parse().map_err(io::Error::other)?;
    let duration = Duration::from_secs(minutes * 60);
    let report = soak::run(&spec, &flanneld, duration, RESTART_EVERY)?;
    println!("soak of {name}, {report}");
    report
        .failure()
        .map_or(Ok(()), |why| Err(io::Error::other(why)))
}
