//! Starts a daemon beside an etcd with more and more leases, and prints what that takes.
//!
//! `scale [LEASES]...`, in ascending order; the daemon is the one beside this program, or what `FLANNELD` names.
//! `scale --churn MINUTES LEASES` has one node in a hundred change each minute instead.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::interrupt;
use benches::paths::flanneld_beside_this_program;
use benches::scale::Scale;

const USAGE: &str = "usage: scale [LEASES]..., in ascending order, or scale --churn MINUTES LEASES";
const USUAL: [usize; 5] = [0, 1000, 2000, 10_000, 100_000];

fn main() -> ExitCode {
    match interrupt::leave_nothing().and_then(|()| run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let flanneld = match env::var_os("FLANNELD") {
        Some(program) => PathBuf::from(program),
        None => flanneld_beside_this_program()?,
    };
    let mut scale = Scale::new(&flanneld)?;
    let mut typed = env::args().skip(1).peekable();
    if typed.next_if(|word| word == "--churn").is_some() {
        let (duration, leases) = churn(typed)?;
        println!("{leases:>7} leases: {}", scale.churn(leases, duration)?);
        return Ok(());
    }
    for leases in steps(typed)? {
        println!("{leases:>7} leases: {}", scale.load(leases)?);
    }
    Ok(())
}

/// How long there shall be changes, and among how many leases.
fn churn(typed: impl Iterator<Item = String>) -> io::Result<(Duration, usize)> {
    let numbers: Result<Vec<u32>, _> = typed.map(|word| word.parse()).collect();
    match numbers.as_deref() {
        Ok([minutes, leases]) => Ok((Duration::from_secs(60) * *minutes, *leases as usize)),
        _ => Err(io::Error::other(USAGE)),
    }
}

/// How many leases to go through.
fn steps(typed: impl Iterator<Item = String>) -> io::Result<Vec<usize>> {
    let typed: Result<Vec<usize>, _> = typed.map(|word| word.parse()).collect();
    match typed {
        Ok(typed) if typed.is_empty() => Ok(USUAL.to_vec()),
        Ok(typed) if typed.is_sorted() => Ok(typed),
        _ => Err(io::Error::other(USAGE)),
    }
}
