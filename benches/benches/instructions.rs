//! Instructions of what happens to every packet between the system calls: the same on a busy
//! machine as on an idle one, so a change that costs more can be told from noise.
//!
//! Each operation runs in a process of its own under callgrind, with two counts of repetitions; the
//! difference holds no start-up. Compared is with `benches/instructions.txt`, if the same compiler
//! made it.

mod cases;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
/// Repetitions of the two runs, equally long as words so that the processes start alike.
const REPEATS: [u64; 2] = [500, 900];
/// Growth beyond this is a defect or a decision, to be saved on purpose.
const GROWTH_PERCENT: u64 = 5;

type Counts = BTreeMap<String, u64>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["--repeat", name, count] => repeat(name, count),
        [] => count_all().and_then(|counts| compare(&counts)),
        ["--save"] => count_all().and_then(|counts| save(&counts)),
        _ => Err("usage: instructions [--save]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The measured process: one operation, over and over.
fn repeat(name: &str, count: &str) -> Result<(), Box<dyn Error>> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| format!("no operation is called {name}"))?;
    let mut run = (case.prepare)();
    for _ in 0..count.parse::<u64>()? {
        std::hint::black_box(run());
    }
    Ok(())
}

fn count_all() -> Result<Counts, Box<dyn Error>> {
    cases::all()
        .into_iter()
        .map(|case| Ok((case.name.clone(), count(&case.name)?)))
        .collect()
}

fn count(name: &str) -> Result<u64, Box<dyn Error>> {
    let [short, long] = REPEATS;
    let difference = collected(name, long)?.saturating_sub(collected(name, short)?);
    Ok(difference / (long - short))
}

/// Instructions of a whole process, as callgrind says at its end.
fn collected(name: &str, repeats: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--repeat", name, &repeats.to_string()])
        .output()
        .map_err(|error| {
            format!("cannot run valgrind: {error}. Install it, or run scripts/instructions")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let total = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, total) = total.ok_or_else(|| format!("callgrind counted nothing:\n{said}"))?;
    Ok(total.trim().parse()?)
}

fn compare(counts: &Counts) -> Result<(), Box<dyn Error>> {
    let saved = fs::read_to_string(BASELINE).map_err(|error| {
        format!("no baseline ({error}); make one with scripts/instructions --save")
    })?;
    let before = parse(&saved);
    let comparable = saved.lines().next() == Some(&first_line()?);
    let mut worse = Vec::new();
    for (name, &now) in counts {
        let saved = before.get(name).copied();
        println!("{name:<28} {now:>9} {}", change(saved, now));
        if saved.is_none_or(|saved| now * 100 > saved * (100 + GROWTH_PERCENT)) {
            worse.push(name.as_str());
        }
    }
    if !comparable {
        println!(
            "instructions: the baseline was made by another compiler or processor, so nothing is judged"
        );
        return Ok(());
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than {GROWTH_PERCENT} % over the baseline, or not in it: {}. If that is meant: scripts/instructions --save",
        worse.join(", ")
    )
    .into())
}

fn change(before: Option<u64>, now: u64) -> String {
    match before {
        Some(before) if before > 0 => {
            format!("{:+.1} %", (now as f64 / before as f64 - 1.0) * 100.0)
        }
        _ => "new".to_owned(),
    }
}

fn save(counts: &Counts) -> Result<(), Box<dyn Error>> {
    let mut text =
        first_line()? + "\n# Instructions of one operation: scripts/instructions --save\n";
    for (name, count) in counts {
        writeln!(text, "{name:<28} {count:>9}")?;
    }
    fs::write(BASELINE, &text)?;
    print!("{text}");
    Ok(())
}

fn parse(text: &str) -> Counts {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

/// Counts are comparable only between programs of one compiler, on processors with the same features.
fn first_line() -> Result<String, Box<dyn Error>> {
    let version = Command::new("rustc").arg("--version").output()?.stdout;
    let avx2 = fs::read_to_string("/proc/cpuinfo")?.contains(" avx2 ");
    Ok(format!(
        "# {}, {}{}",
        String::from_utf8(version)?.trim(),
        std::env::consts::ARCH,
        if avx2 { " with avx2" } else { "" }
    ))
}
