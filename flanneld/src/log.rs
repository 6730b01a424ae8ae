//! Log lines on stderr: in the form flannel's have, `I1120 10:22:33.123456    4711 file.rs:42] text`, or each a JSON
//! object, `{"at":"file.rs:42","level":"info","message":"text","pid":4711,"time":"2026-11-20T10:22:33.123456Z"}`.

use crate::args::LogFormat;
use serde_json::json;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// A library that logs each failure of a request as an error.
const SILENT: &str = "kube_client=off";

/// Starts logging; `verbosity` is the number after `-v`.
pub(crate) fn start(verbosity: i32, format: LogFormat) {
    let level = match verbosity {
        ..=0 => LevelFilter::INFO,
        1..=3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // What it reports we report ourselves, once and with what to do about it.
    let silent = SILENT.parse().ok();
    let filter = silent
        .into_iter()
        .fold(EnvFilter::default(), EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.add_directive(level.into()))
        .with_writer(std::io::stderr);
    builder.event_format(Line(format)).init();
}

struct Line(LogFormat);

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
        let at = format!("{}:{}", file.display(), metadata.line().unwrap_or(0));
        let mut message = String::new();
        context
            .field_format()
            .format_fields(Writer::new(&mut message), event)?;
        let (pid, level) = (std::process::id(), *metadata.level());
        match self.0 {
            LogFormat::Text => {
                let (letter, stamp) = (letter(level), stamp(since_epoch));
                writeln!(writer, "{letter}{stamp} {pid:7} {at}] {message}")
            }
            LogFormat::Json => {
                let level = level.as_str().to_ascii_lowercase();
                let time = full_stamp(since_epoch);
                let line =
                    json!({"time": time, "level": level, "pid": pid, "at": at, "message": message});
                writeln!(writer, "{line}")
            }
        }
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
    let (_, month, day) = date(since_epoch.as_secs() / 86400);
    format!("{month:02}{day:02} {}", time_of_day(since_epoch))
}

/// The same with the year, as standards have it.
fn full_stamp(since_epoch: Duration) -> String {
    let (year, month, day) = date(since_epoch.as_secs() / 86400);
    format!(
        "{year:04}-{month:02}-{day:02}T{}Z",
        time_of_day(since_epoch)
    )
}

fn time_of_day(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:06}",
        seconds % 60,
        since_epoch.subsec_micros()
    )
}

/// Year, month and day. Counts years from the first of March, so that the leap day is the last of its year.
fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = days / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
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
        for (seconds, stamp) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(full_stamp(Duration::from_secs(seconds)), stamp);
        }
    }
}
