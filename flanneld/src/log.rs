//! Log lines on stderr in the form flannel's have: `I1120 10:22:33.123456    4711 file.rs:42] text`.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging; `verbosity` is the number after `-v`.
pub(crate) fn start(verbosity: i32) {
    let level = match verbosity {
        ..=0 => LevelFilter::INFO,
        1..=3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    builder.event_format(Line).init();
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let file = metadata
            .file()
            .map(Path::new)
            .and_then(Path::file_name)
            .unwrap_or_default();
        write!(
            writer,
            "{}{} ",
            letter(*metadata.level()),
            stamp(since_epoch)
        )?;
        write!(
            writer,
            "{:7} {}:{}] ",
            std::process::id(),
            file.display(),
            metadata.line().unwrap_or(0)
        )?;
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        _ => 'I',
    }
}

/// Month, day and time of day, UTC.
fn stamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (month, day) = month_and_day(seconds / 86400);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!(
        "{month:02}{day:02} {hours:02}:{minutes:02}:{:02}.{:06}",
        seconds % 60,
        since_epoch.subsec_micros()
    )
}

/// Counts years from the first of March, so that the leap day is the last of its year.
fn month_and_day(days_since_epoch: u64) -> (u64, u64) {
    let days = days_since_epoch + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    ((month_from_march + 2) % 12 + 1, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        let cases = [
            (0, "0101"),
            (951_782_400, "0229"),
            (951_868_800, "0301"),
            (1_709_251_199, "0229"),
            (1_767_225_599, "1231"),
            (4_107_542_400, "0301"),
        ];
        for (seconds, date) in cases {
            assert!(
                stamp(Duration::from_secs(seconds)).starts_with(date),
                "{seconds}: {}",
                stamp(Duration::from_secs(seconds))
            );
        }
        assert_eq!(
            stamp(Duration::from_micros(1_763_634_153_123_456)),
            "1120 10:22:33.123456"
        );
    }
}
