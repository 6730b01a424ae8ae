//! `flannelctl doctor`: looks for what usually keeps packets from getting through, and names the cure for each finding.
//! It looks and sends echo requests; it changes nothing.

mod clock;
mod features;
mod host;
mod kernel;
mod paths;

use crate::args::Doctor;
use crate::ask::{document, json};
use crate::exit::Exit;
use console::answers::{SCHEMA, Status};
use console::client::Unanswered;
use console::protocol::Question;
use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Doubtful,
    Bad,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    cure: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Good,
            found: found.into(),
            cure: None,
        }
    }

    fn doubtful(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Doubtful,
            cure: Some(cure.into()),
            ..Self::good(check, found)
        }
    }

    fn bad(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::doubtful(check, found, cure)
        }
    }
}

/// Looks at everything, and tells.
pub(crate) fn run(arguments: &Doctor) -> Exit {
    let status = document::<Status>(&arguments.asking.socket, Question::Status);
    let mut findings = vec![daemon(&status)];
    let status = status.ok();
    findings.extend(host::findings(status.as_ref()));
    if status.is_some() {
        findings.extend(paths::findings(arguments));
    }
    match arguments.asking.json {
        true => println!(
            "{}",
            json(&serde_json::json!({"schema": SCHEMA, "findings": findings}))
        ),
        false => print!("{}", page(&findings)),
    }
    match findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad)
    {
        true => Exit::Failed,
        false => Exit::Well,
    }
}

fn daemon(status: &Result<Status, Unanswered>) -> Finding {
    match status {
        Err(why) => Finding::bad("daemon", why.to_string(), unanswered(why)),
        Ok(status) if status.healthy => Finding::good("daemon", "it is well"),
        Ok(status) => Finding::bad(
            "daemon",
            status.problems.join("; "),
            "see flannelctl status",
        ),
    }
}

fn unanswered(why: &Unanswered) -> &'static str {
    match why {
        Unanswered::Absent(_) => "start it, or name its --socket",
        Unanswered::Forbidden(_) => "run this with sudo",
        Unanswered::Silent(_) => "restart it, and see in its log why it is stuck",
        Unanswered::Refused(_) | Unanswered::Garbled(_) => {
            "see its log; restart it where it is of another version"
        }
    }
}

fn page(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Doubtful => "?   ",
            Verdict::Bad => "BAD ",
        };
        let cure = finding.cure.as_ref();
        let cure = cure.map_or_else(String::new, |cure| format!("\n        cure: {cure}"));
        format!("{mark}{}: {}{cure}\n", finding.check, finding.found)
    };
    findings.iter().map(line).collect()
}
