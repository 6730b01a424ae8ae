//! Numbers in words.

/// A time as people say it: its two largest units.
pub(crate) fn time(seconds: u64) -> String {
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let from = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let told = units[from..].iter().take(2).filter(|(count, _)| *count > 0);
    let told: Vec<String> = told
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    match told.is_empty() {
        true => "0 s".to_owned(),
        false => told.join(" "),
    }
}

/// Things in a row.
pub(crate) fn list<T: ToString>(things: &[T]) -> String {
    let words: Vec<String> = things.iter().map(T::to_string).collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

/// So many of what has an `s` when there are more.
pub(crate) fn count(number: usize, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {what}{end}")
}

/// `on` or `off`.
pub(crate) fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// What is there, or a dash.
pub(crate) fn or_dash<T: ToString>(thing: Option<T>) -> String {
    thing.map_or_else(|| "-".to_owned(), |thing| thing.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_told_as_one() {
        let told = [0, 1, 2].map(|number| count(number, "worker"));
        assert_eq!(told, ["0 workers", "1 worker", "2 workers"]);
    }

    #[test]
    fn times_are_told_by_their_two_largest_units() {
        let told = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3725, "1 h 2 min"),
            (86_405, "1 d"),
        ];
        for (seconds, words) in told {
            assert_eq!(time(seconds), words);
        }
    }
}
