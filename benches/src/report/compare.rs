//! Two reports beside each other: which ratios another run confirms.
//!
//! Only ratios are compared, never numbers: they hold on a machine that is slower the next time.

use std::fmt;

use super::{Report, short};

/// The ratios to the first reference that both reports have.
#[derive(Clone, Debug)]
pub struct Comparison {
    reference: String,
    limit_percent: f64,
    pairs: Vec<Pair>,
}

/// One ratio in both.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    what: [String; 3],
    before: f64,
    after: f64,
}

impl Pair {
    fn percent(&self) -> f64 {
        (self.after / self.before - 1.0) * 100.0
    }
}

impl Comparison {
    /// Compares; a ratio that differs by more than `limit_percent` is marked.
    pub fn of(before: &Report, after: &Report, limit_percent: f64) -> Self {
        let reference = after.references.first().cloned().unwrap_or_default();
        let mut pairs = Vec::new();
        for profile in after.profiles() {
            for metric in after.metrics(&profile, |name| !is_detail(name)) {
                for path in after.paths(&profile, std::slice::from_ref(&metric)) {
                    let ratio = |of: &Report| of.ratio(&profile, &path, &metric, &reference);
                    let Some((before, after)) = ratio(before).zip(ratio(after)) else {
                        continue;
                    };
                    let what = [profile.clone(), metric.clone(), path];
                    pairs.push(Pair {
                        what,
                        before,
                        after,
                    });
                }
            }
        }
        pairs.retain(|pair| pair.what[2] != reference && pair.before > 0.0);
        Self {
            reference,
            limit_percent,
            pairs,
        }
    }

    fn differs(&self, pair: &Pair) -> bool {
        pair.percent().abs() > self.limit_percent
    }
}

/// Of a distribution only the middle is compared: no two runs agree on its tails.
fn is_detail(name: &str) -> bool {
    name.contains("_p") && !name.ends_with("_p50")
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, all) = (self.limit_percent, self.pairs.len());
        writeln!(out, "Ratios to {}, before and after:\n", self.reference)?;
        writeln!(out, "| profile | metric | path | before | after | change |")?;
        writeln!(out, "|---|---|---|---:|---:|---:|")?;
        for pair in &self.pairs {
            let [profile, metric, path] = &pair.what;
            let (before, after, percent) = (short(pair.before), short(pair.after), pair.percent());
            let mark = if self.differs(pair) { " **" } else { "" };
            writeln!(
                out,
                "| {profile} | {metric} | {path} | {before} | {after} | {percent:+.0} %{mark} |"
            )?;
        }
        let differing = self.pairs.iter().filter(|pair| self.differs(pair)).count();
        writeln!(
            out,
            "\n{differing} of {all} differ by more than {limit} %{}",
            if differing > 0 { " (**)" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::tests::sample;

    #[test]
    fn a_report_confirms_itself() {
        let report = sample();
        let page = Comparison::of(&report, &report, 10.0).to_string();
        assert!(
            page.contains("| wire | tcp1 | udp | 2.00 | 2.00 | +0 % |"),
            "{page}"
        );
        assert!(page.contains("0 of 2 differ by more than 10 %"), "{page}");
        assert!(!page.contains("| kernel-vxlan |"), "{page}");
    }

    #[test]
    fn a_ratio_that_differs_is_marked_whatever_the_machine_s_speed() {
        let (before, mut after) = (sample(), sample());
        for record in &mut after.records {
            record.reading.value *= if record.path == "udp" { 1.0 } else { 2.0 };
        }
        let page = Comparison::of(&before, &after, 10.0).to_string();
        assert!(page.contains("| udp | 2.00 | 1.00 | -50 % ** |"), "{page}");
        assert!(page.contains("1 of 2 differ"), "{page}");
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let scratch = crate::scratch::Scratch::new().unwrap();
        let report = sample();
        report.save(scratch.path()).unwrap();
        let read = Report::read(scratch.path()).unwrap();
        assert_eq!(read.csv(), report.csv());
        let error = Report::read(&scratch.path().join("nowhere")).unwrap_err();
        assert!(error.to_string().contains("raw.json"), "{error}");
    }
}
