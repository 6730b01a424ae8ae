//! Processor time: of the whole machine, of one process, of one thread.

use std::fs;
use std::path::Path;

use crate::sys;

/// Seconds all processors together have been busy since the machine started.
pub fn machine_busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(&stat) as f64 / sys::clock_ticks_per_second()
}

/// Seconds used by the process or thread whose `stat` file this is; 0 when it is gone.
pub fn used_by(stat: &Path) -> f64 {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    used_ticks(&stat).unwrap_or(0) as f64 / sys::clock_ticks_per_second()
}

/// All of the first line of /proc/stat but idle, I/O wait and what guests are counted twice for.
fn busy_ticks(stat: &str) -> u64 {
    let numbers = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let numbers = numbers
        .take(8)
        .map(|number| number.parse::<u64>().unwrap_or(0));
    numbers
        .enumerate()
        .filter(|(place, _)| ![3, 4].contains(place))
        .map(|(_, ticks)| ticks)
        .sum()
}

/// User and system time: the 12th and 13th word after the name in brackets.
fn used_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut words = after_name.split_whitespace().skip(11);
    Some(words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy_time() {
        assert_eq!(
            busy_ticks("cpu  1 2 3 1000 2000 4 5 6 70 80\ncpu0 9 9 9"),
            21
        );
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0";
        assert_eq!(used_ticks(stat), Some(300));
    }

    #[test]
    fn a_process_that_is_gone_uses_nothing() {
        assert_eq!(
            used_by(Path::new("/proc/0/stat")).to_bits(),
            0_f64.to_bits()
        );
    }
}
