//! Every document that `--json` prints, field by field as `docs/console.md` describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use benches::Side;
use serde_json::Value;

use super::cures::{on_node, up};
use super::scene::{Answer, UDP, ask, tool};

const PAGE: &str = include_str!("../../../docs/console.md");
const HEADING: &str = "| document | fields |";

/// The names of a document's fields.
type Fields = BTreeSet<String>;

/// The words in backticks that are not in brackets.
fn names(cell: &str) -> Fields {
    let (mut depth, mut plain) = (0, String::new());
    for letter in cell.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let words = plain.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

/// What the page says about each document and each part of one.
fn documented() -> BTreeMap<String, Fields> {
    let (_, table) = PAGE.split_once(HEADING).unwrap();
    let rows = table.lines().skip(2).map_while(|row| row.strip_prefix('|'));
    let rows = rows.map(|row| row.split_once('|').unwrap());
    rows.flat_map(|(documents, fields)| {
        let fields = names(fields);
        let each = move |document| (document, fields.clone());
        names(documents).into_iter().map(each)
    })
    .collect()
}

/// The fields that each part of an answer has; texts that are JSON themselves are texts here.
fn parts(place: &str, value: &Value, found: &mut BTreeMap<String, Fields>) {
    match value {
        Value::Object(fields) => {
            let names = fields.keys().cloned().collect();
            let before = found.insert(place.to_owned(), names);
            let now = &found[place];
            assert!(
                before.is_none_or(|before| before == *now),
                "{place} differs: {now:?}"
            );
            for (name, value) in fields {
                parts(&format!("{place}.{name}"), value, found);
            }
        }
        Value::Array(list) => list
            .iter()
            .for_each(|one| parts(&format!("{place}[]"), one, found)),
        _ => {}
    }
}

/// Feeds the tool a text.
fn fed(command: &mut std::process::Command, text: &str) -> Answer {
    use std::io::Write;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn every_document_has_the_fields_that_are_documented_and_no_others() {
    let (path, socket) = up("vxlan+forms=vxlan,udp");
    let (container, far) = (path.container(Side::A).0, path.container(Side::B).1);
    container.run(&format!("ping -c 3 -i 0.01 {far}")).unwrap();
    let nobody = container.run("ping -c 1 -W 0.1 10.5.255.1");
    assert!(nobody.is_err());
    let mut found = BTreeMap::new();
    let mut see = |document: &str, answer: Answer| {
        let value = answer.json();
        assert_eq!(value["schema"], 1, "{answer:?}");
        parts(document, &value, &mut found);
    };
    for document in ["status", "lease", "peers", "routes", "stats"] {
        see(document, ask(&socket, &format!("{document} --json")));
    }
    see("drops", ask(&socket, "drops --json --interval 0.1"));
    see("doctor", on_node(&path, &socket, "doctor --json"));
    see(
        "ping",
        on_node(&path, &socket, "ping 192.168.77.2 --json --count 1"),
    );
    see(
        "config check",
        fed(&mut tool(&socket, "config check - --json"), UDP),
    );
    // A record of nobody's, beside those that are good.
    std::fs::write(path.records().join("10.5.9.0-24"), "{").unwrap();
    let mut list = std::process::Command::new(env!("CARGO_BIN_EXE_flannelctl"));
    let store = path.records().parent().unwrap().display().to_string();
    list.args(["lease", "list", "--json"])
        .arg(format!("--store=file:{store}"));
    see("lease list", list.output().unwrap().into());
    let documented = documented();
    let (described, seen): (BTreeSet<_>, BTreeSet<_>) =
        (documented.keys().collect(), found.keys().collect());
    assert_eq!(described, seen, "documents, and parts of them");
    for (place, fields) in &documented {
        assert_eq!(*fields, found[place], "the fields of {place}");
    }
}

#[test]
fn where_there_is_no_answer_a_program_is_told_in_a_word_why() {
    let nowhere = std::path::Path::new("/nowhere/socket");
    let mut list = std::process::Command::new(env!("CARGO_BIN_EXE_flannelctl"));
    list.args(["lease", "list", "--json", "--store=file:/nowhere"]);
    let cases: [(&str, i32, Answer); 3] = [
        ("absent", 3, ask(nowhere, "status --json")),
        (
            "unreadable",
            1,
            ask(nowhere, "config check /nowhere/config --json"),
        ),
        ("unreadable", 1, list.output().unwrap().into()),
    ];
    for (word, code, answer) in cases {
        let document = answer.json();
        let fields: Vec<_> = document.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["error", "message", "schema"]);
        assert_eq!(
            (answer.code, &document["error"]),
            (code, &word.into()),
            "{answer:?}"
        );
        assert!(PAGE.contains(&format!("`{word}`")));
    }
}
