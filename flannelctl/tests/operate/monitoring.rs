//! The metrics, alert rules and dashboard, as a real Prometheus reads them.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path as FsPath, PathBuf};
use std::thread;
use std::time::Duration;

use benches::daemon::Daemon;
use benches::{Path, PathSpec, Profile, Side};
use serde_json::Value;

use super::scene::flanneld;

const ADDRESS: &str = "127.0.0.1:9090";

/// A Prometheus beside the daemon of node A, which it asks every fifth of a second.
struct Prometheus {
    server: Daemon,
    path: Path,
}

/// What the project ships for monitoring.
fn deployed(name: &str) -> PathBuf {
    FsPath::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

impl Prometheus {
    fn start() -> Self {
        let spec: PathSpec = "udp+metrics-port=9472".parse().unwrap();
        let path = Path::up(&spec, Profile::Offload, &flanneld()).unwrap();
        let directory = path.lab().scratch();
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [{}]\n\
             scrape_configs: [{{job_name: flannel, static_configs: [{{targets: ['127.0.0.1:9472']}}]}}]\n",
            deployed("alerts.yml").display()
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut command = path.lab().node(Side::A).command("prometheus").unwrap();
        command.arg(format!("--config.file={}", file.display()));
        let store = directory.join("prometheus");
        command.arg(format!("--storage.tsdb.path={}", store.display()));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        let server = Daemon::start(&mut command, &directory.join("prometheus.log")).unwrap();
        Self { server, path }
    }

    /// The data of an answer of its API, once there is any.
    fn get(&self, target: &str) -> Option<Value> {
        let ask = || {
            let mut stream = TcpStream::connect(ADDRESS)?;
            write!(stream, "GET /api/v1/{target} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.path.lab().node(Side::A).enter(ask).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        (body["status"] == "success").then(|| body["data"].clone())
    }

    /// What an expression gives at the moment.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let found = self.get(&format!("query?query={}", encoded(expression)))?;
        found["result"].as_array().cloned()
    }

    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        for _ in 0..300 {
            if let Some(found) = look() {
                return found;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("waited in vain for {what}\n{}", self.server.log())
    }
}

/// As it may stand in a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02x}").unwrap(),
        }
    }
    encoded
}

fn rules(prometheus: &Prometheus) -> Option<Vec<Value>> {
    let found = prometheus.get("rules")?;
    let rules = found["groups"][0]["rules"].as_array()?.clone();
    let evaluated = rules.iter().all(|rule| rule["health"] == "ok");
    evaluated.then_some(rules)
}

fn state(prometheus: &Prometheus, alert: &str) -> Option<String> {
    let rules = rules(prometheus)?;
    let rule = rules.iter().find(|rule| rule["name"] == alert)?;
    Some(rule["state"].as_str()?.to_owned())
}

#[test]
fn prometheus_reads_every_metric_and_evaluates_the_alerts() {
    let prometheus = Prometheus::start();
    let up = || prometheus.query("up == 1").filter(|found| found.len() == 1);
    prometheus.wait("a scrape", up);
    let rules = prometheus.wait("rules", || rules(&prometheus));
    assert_eq!(rules.len(), 8);
    assert!(
        rules.iter().all(|rule| rule["state"] == "inactive"),
        "{rules:?}"
    );

    let node = prometheus.path.lab().node(Side::B);
    node.ip("addr add 192.168.77.66/24 dev eth0").unwrap();
    let send = || {
        let socket = UdpSocket::bind("192.168.77.66:0")?;
        (0..3000).try_for_each(|_| socket.send_to(b"no packet", "192.168.77.1:8285").map(drop))
    };
    let alerted = || {
        node.enter(send).unwrap();
        state(&prometheus, "FlannelStrangers").filter(|state| state == "pending")
    };
    prometheus.wait("an alert about strangers", alerted);
}

#[test]
fn every_panel_of_the_dashboard_shows_something() {
    let prometheus = Prometheus::start();
    let text = fs::read_to_string(deployed("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let (container, _) = prometheus.path.container(Side::A);
    let (_, far) = prometheus.path.container(Side::B);
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap().replace("$node", ".*");
            // Drops are shown only where there are some.
            let expression = expression.trim_end_matches(" > 0");
            let shown = || {
                let _ = container.run(&format!("ping -c 20 -i 0.002 -W 1 {far}"));
                let found = prometheus.query(expression)?;
                let number =
                    |value: &Value| value["value"][1].as_str().is_some_and(|text| text != "NaN");
                found.iter().any(number).then_some(())
            };
            prometheus.wait(expression, shown);
        }
    }
}
