//! Starts a daemon beside an etcd with more and more leases, and prints what that takes.
//!
//! `scale [LEASES]...`, in ascending order; the daemon is the one beside this program, or what `FLANNELD` names.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::interrupt;
use benches::paths::flanneld_beside_this_program;
use benches::scale::Scale;

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
    for leases in steps()? {
        println!("{leases:>7} leases: {}", scale.load(leases)?);
    }
    Ok(())
}

/// How many leases to go through.
fn steps() -> io::Result<Vec<usize>> {
    let typed: Result<Vec<usize>, _> = env::args().skip(1).map(|word| word.parse()).collect();
    match typed {
        Ok(typed) if typed.is_empty() => Ok(USUAL.to_vec()),
        Ok(typed) if typed.is_sorted() => Ok(typed),
        _ => Err(io::Error::other(
            "usage: scale [LEASES]..., in ascending order",
        )),
    }
}
