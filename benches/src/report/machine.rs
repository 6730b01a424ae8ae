//! On what, with what and when something was measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A file that only a checkout of this project has.
const LANDMARK: &str = "benches/baselines";

/// On what, with what and when something was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub processor: String,
    /// Processors online.
    pub processors: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// The command line.
    pub command: String,
    /// The version of this program, and of other programs that were measured.
    pub versions: Vec<String>,
    /// The commit, when run in a checkout of this project.
    pub commit: Option<String>,
    /// When the run began, in universal time.
    pub date: String,
}

impl Machine {
    /// Describes this machine and this run.
    pub fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let kib: f64 = field(&read("/proc/meminfo"), "MemTotal")
            .parse()
            .unwrap_or(0.0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field_line(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib / 1024.0 / 1024.0).round(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            versions: Vec::new(),
            commit: commit(),
            date: date(SystemTime::now()),
        }
    }

    /// Adds what a program calls itself.
    pub fn add_version(&mut self, name: &str, program: &Path) {
        let said = Command::new(program)
            .arg("--version")
            .output()
            .map(|output| {
                let text = [output.stdout, output.stderr].concat();
                String::from_utf8_lossy(&text).trim().to_owned()
            });
        if let Ok(said) = said {
            self.versions.push(format!("{name} {said}"));
        }
    }
}

/// The rest of the first line that begins with `name`, without what separates them.
fn field_line(text: &str, name: &str) -> String {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let separators = [' ', '\t', ':'];
    rest.unwrap_or_default().trim_matches(separators).to_owned()
}

/// The first word of that.
fn field(text: &str, name: &str) -> String {
    let line = field_line(text, name);
    line.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The commit of the checkout this was started in; of somebody else's it would mean nothing.
fn commit() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let ours = Path::new(&top).join(LANDMARK).is_dir();
    ours.then(|| git(&["describe", "--always", "--dirty"]))?
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(said)
}

/// A moment as `2026-11-20 13:05 UTC`.
fn date(moment: SystemTime) -> String {
    let seconds = moment
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Year, month and day of a number of days after the first of January 1970.
///
/// Years are counted from March, so that the odd day of leap years comes last and 153 days are
/// five months wherever one begins to count.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let leap_years = year_of_era / 4 - year_of_era / 100;
    let day_of_year = day_of_era - (365 * year_of_era + leap_years);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(at(1_798_761_599), "2026-12-31 23:59 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn a_machine_knows_its_kernel_and_its_command() {
        let machine = Machine::here();
        assert!(!machine.kernel.is_empty() && !machine.command.is_empty());
        assert!(machine.memory_gib > 0.0);
    }
}
