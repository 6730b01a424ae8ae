//! The metrics as monitoring systems read them, and the page that explains them.

use super::*;
use console::answers::{Engine, Lease, Network, SCHEMA, Store};

fn scrape() -> Scrape {
    let status = Status {
        schema: SCHEMA,
        version: "0".to_owned(),
        pid: 1,
        uptime_seconds: 2,
        healthy: true,
        problems: Vec::new(),
        waiting_for: None,
        silent_seconds: 0,
        store: Store::default(),
        node: None,
        network: Some(Network {
            ranges: Vec::new(),
            backend: "udp".to_owned(),
            carried_by: "engine".to_owned(),
            direct_routing: false,
            mtu: 1472,
            port: Some(8285),
            beside: None,
        }),
        lease: Some(Lease {
            schema: SCHEMA,
            subnets: Vec::new(),
            standing: "held".to_owned(),
            reserved: false,
            age_seconds: 1,
            renewed_seconds_ago: None,
            renewal_in_seconds: None,
            expires_in_seconds: Some(7),
            record: String::new(),
        }),
        others: None,
        engine: Some(Engine {
            device: "flannel0".to_owned(),
            io: "io \"uring\"".to_owned(),
            io_reason: String::new(),
            workers: 1,
            answers: true,
            virtio_header: true,
            tso: true,
            uso: true,
            gso_segments: 128,
            gro: true,
            merge: true,
            shortcut: None,
        }),
    };
    Scrape {
        status,
        total: Counters::default(),
        denied: 0,
        workers: vec![Counters::default()],
    }
}

/// A metric's kind and meaning.
fn described(text: &str) -> Vec<(String, String, String)> {
    let line = |mark: &str, name: &str| {
        let start = format!("# {mark} {name} ");
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(start.as_str()));
        found.unwrap_or_default().trim_end_matches('.').to_owned()
    };
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = names.filter_map(|line| line.split(' ').next());
    let described = names.map(|name| (name.to_owned(), line("TYPE", name), line("HELP", name)));
    described.collect()
}

fn labels(text: &str, name: &str) -> String {
    let sample = |line: &&str| {
        line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name}_total{{"))
    };
    let Some(sample) = text.lines().find(sample) else {
        return String::new();
    };
    let inside = sample.split(['{', '}']).nth(1).unwrap_or_default();
    let names = inside
        .split("\",")
        .filter_map(|label| label.split('=').next());
    let names = names.filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// The page as it must be.
fn page(text: &str) -> String {
    let mut page = "# Metrics

`flanneld --metrics-port=PORT` answers `/metrics` in the OpenMetrics text format, on the loopback address unless
`--metrics-ip` says otherwise. A scrape reads counters where the workers write them and costs them nothing. Counters by
worker begin anew when the engine is started anew, as with any counter of a process. At `/` there is a status page for people
([console.md](console.md#the-status-page)).

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
"
    .to_owned();
    for (name, kind, help) in described(text) {
        let shown = match kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name.clone(),
        };
        page += &format!(
            "| `{shown}` | {kind} | {} | {help} |\n",
            labels(text, &name)
        );
    }
    page += "
## Reasons to drop

The values of `reason` in `flannel_drop_packets_total`, and the names in `flannelctl drops`.

| reason | meaning |
| --- | --- |
";
    for reason in DropReason::ALL {
        let meaning = reason.about().trim_end_matches('.');
        page += &format!("| `{}` | {meaning} |\n", reason.name());
    }
    page
}

#[test]
fn the_page_of_metrics_says_what_there_is() {
    let written = include_str!("../../../../docs/metrics.md");
    let wanted = page(&render(scrape()).unwrap());
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("WRITE_METRICS_PAGE").is_some() {
        return std::fs::write(here, wanted).unwrap();
    }
    assert!(
        written == wanted,
        "docs/metrics.md is out of date: run this test once with WRITE_METRICS_PAGE=1"
    );
}

#[test]
fn every_metric_has_a_meaning_and_samples_that_can_be_read() {
    let text = render(scrape()).unwrap();
    for (name, kind, help) in described(&text) {
        assert!(name.starts_with("flannel_"), "{name}");
        assert!(help.len() > 10, "{name}: {help:?}");
        assert!(
            ["gauge", "counter", "histogram"].contains(&kind.as_str()),
            "{name}: {kind}"
        );
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(text.contains(r#"io="io \"uring\"""#), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

/// The words in a text that look like names of ours.
fn names(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("flannel_")).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let text = render(scrape()).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let there: Vec<&str> = samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let alerts = include_str!("../../../../deploy/alerts.yml");
    let dashboard = include_str!("../../../../deploy/grafana-dashboard.json");
    let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    assert!(
        parsed["panels"]
            .as_array()
            .is_some_and(|panels| panels.len() == 10)
    );
    for page in [alerts, dashboard] {
        assert!(names(page).len() >= 8);
        for name in names(page) {
            assert!(there.contains(&name), "nothing is called {name}");
        }
    }
    let reasons = alerts
        .split("reason=")
        .skip(1)
        .filter_map(|rest| rest.split('"').nth(1));
    for reason in reasons.flat_map(|reasons| reasons.split('|')) {
        let known = DropReason::ALL.iter().any(|known| known.name() == reason);
        assert!(known, "no reason is called {reason}");
    }
}
