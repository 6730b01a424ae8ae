//! Questions to the daemon on this host, over its socket: for people as tables, for programs as the daemon's own JSON.

mod drops;
mod lists;
mod status;
pub(crate) mod table;
pub(crate) mod words;

use crate::args::{Asking, Rates};
use crate::exit::Exit;
use console::client::{Unanswered, ask};
use console::protocol::Question;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// How the daemon fares.
pub(crate) fn status(asking: &Asking) -> Exit {
    answer(Question::Status, asking, status::page, status::exit)
}

/// This node's lease.
pub(crate) fn lease(asking: &Asking) -> Exit {
    answer(Question::Lease, asking, status::lease, |_| Exit::Well)
}

/// The nodes packets go to.
pub(crate) fn peers(asking: &Asking) -> Exit {
    answer(Question::Peers, asking, lists::peers, |_| Exit::Well)
}

/// The subnets packets go to.
pub(crate) fn routes(asking: &Asking) -> Exit {
    answer(Question::Routes, asking, lists::routes, |_| Exit::Well)
}

/// Every counter.
pub(crate) fn stats(asking: &Asking) -> Exit {
    answer(Question::Stats, asking, lists::stats, |_| Exit::Well)
}

/// What was not carried; asks twice, to tell how fast that goes.
pub(crate) fn drops(rates: &Rates) -> Exit {
    let asking = &rates.asking;
    let asked = drops::with_rates(&asking.socket, rates.interval);
    asked.map_or_else(
        |why| failed(&why, asking),
        |drops| shown(&drops, asking, drops::page, |_| Exit::Well),
    )
}

fn answer<D>(
    question: Question,
    asking: &Asking,
    page: impl Fn(&D) -> String,
    exit: impl Fn(&D) -> Exit,
) -> Exit
where
    D: DeserializeOwned + Serialize,
{
    document(&asking.socket, question).map_or_else(
        |why| failed(&why, asking),
        |document| shown(&document, asking, page, exit),
    )
}

/// The answer to a question as far as this version knows its fields.
pub(crate) fn document<D: DeserializeOwned>(
    socket: &Path,
    question: Question,
) -> Result<D, Unanswered> {
    let text = ask(socket, question)?;
    serde_json::from_str(&text).map_err(|error| Unanswered::Garbled(error.to_string()))
}

fn shown<D: Serialize>(
    document: &D,
    asking: &Asking,
    page: impl Fn(&D) -> String,
    exit: impl Fn(&D) -> Exit,
) -> Exit {
    match asking.json {
        true => println!("{}", json(document)),
        false => print!("{}", page(document)),
    }
    exit(document)
}

/// A document for programs; plain structures always have a text.
pub(crate) fn json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// Says why the daemon gives no answer.
pub(crate) fn failed(why: &Unanswered, asking: &Asking) -> Exit {
    let (exit, word) = match why {
        Unanswered::Absent(_) => (Exit::Absent, "absent"),
        Unanswered::Silent(_) => (Exit::Silent, "silent"),
        Unanswered::Forbidden(_) => (Exit::Failed, "forbidden"),
        Unanswered::Refused(_) => (Exit::Failed, "refused"),
        Unanswered::Garbled(_) => (Exit::Failed, "garbled"),
    };
    no_answer(asking.json, word, &why.to_string());
    if !asking.json && matches!(exit, Exit::Absent | Exit::Silent) {
        left_behind(&asking.socket);
    }
    exit
}

/// Says in a word, for programs, or in words why there is no answer.
pub(crate) fn no_answer(as_json: bool, word: &str, why: &str) {
    match as_json {
        true => {
            let schema = console::answers::SCHEMA;
            let document = serde_json::json!({"schema": schema, "error": word, "message": why});
            println!("{}", json(&document));
        }
        false => eprintln!("flannelctl: {why}"),
    }
}

/// What containers on this host go by, whether or not the daemon is there.
fn left_behind(socket: &Path) {
    let file = socket.with_extension("");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let values = text.lines().filter_map(|line| line.split_once('='));
    let told: Vec<String> = values
        .filter(|(name, _)| name.ends_with("_SUBNET") || name.ends_with("_MTU"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    match told.is_empty() {
        true => eprintln!("No subnet is known here: there is no {}.", file.display()),
        false => eprintln!(
            "Containers here go on by {}: {}.",
            file.display(),
            told.join(", ")
        ),
    }
}
