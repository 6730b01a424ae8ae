//! As much of a service manager as units of this project ask for: variables, readiness, what runs afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::machine::Machine;

const PATIENCE: Duration = Duration::from_secs(60);

/// A unit, or a piece of one.
pub(crate) struct Unit {
    name: &'static str,
    text: String,
}

impl Unit {
    /// The unit in a file of `deploy/`.
    pub(crate) fn shipped(name: &'static str, file: &str) -> Self {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy"));
        let text = fs::read_to_string(directory.join(file)).unwrap();
        Self { name, text }
    }

    /// The same with other words in its lines.
    pub(crate) fn with(mut self, words: &str, instead: &str) -> Self {
        assert!(self.text.contains(words), "no {words} in {}", self.text);
        self.text = self.text.replace(words, instead);
        self
    }

    /// Starts it and waits until it says that it is ready, as a manager does for `Type=notify`.
    pub(crate) fn start(&self, machine: &mut Machine) {
        let notify = format!("/run/{}.notify", self.name);
        let path = machine.path(&notify);
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let variables = self.variables(machine);
        let words = self.words("ExecStart", &variables);
        let mut command = machine.command(&words[0]);
        command.args(&words[1..]).envs(&variables);
        command.env("NOTIFY_SOCKET", &notify);
        machine.start(self.name, command);
        while !hear(&socket, machine, self.name).contains("READY=1") {}
        if let Some(after) = self.last("ExecStartPost") {
            machine.run(&after.split_whitespace().collect::<Vec<_>>());
        }
    }

    /// What a line is set to; an empty one clears those before it.
    fn last(&self, name: &str) -> Option<&str> {
        self.all(name).pop()
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.text.lines().filter_map(|line| line.split_once('='));
        let values = lines.filter(|(key, _)| *key == name);
        values
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
            .collect()
    }

    fn variables(&self, machine: &Machine) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let mut assign = |line: &str| {
            if let Some((name, value)) = line.split_once('=') {
                variables.insert(name.to_owned(), value.trim_matches('"').to_owned());
            }
        };
        self.all("Environment").into_iter().for_each(&mut assign);
        for file in self.all("EnvironmentFile") {
            let text = fs::read_to_string(machine.path(file.trim_start_matches('-')));
            assert!(text.is_ok() || file.starts_with('-'), "there is no {file}");
            let text = text.unwrap_or_default();
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .for_each(&mut assign);
        }
        variables
    }

    /// A command line with variables that are words of their own filled in.
    fn words(&self, name: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
        let line = self.last(name).expect("a command line");
        let mut words = Vec::new();
        for word in line.split_whitespace() {
            match word.strip_prefix('$') {
                Some(variable) => {
                    let value = variables.get(variable).map(String::as_str);
                    words.extend(
                        value
                            .unwrap_or_default()
                            .split_whitespace()
                            .map(str::to_owned),
                    );
                }
                None => words.push(word.to_owned()),
            }
        }
        words
    }
}

/// What a service says next.
fn hear(socket: &UnixDatagram, machine: &mut Machine, name: &'static str) -> String {
    let mut buffer = [0; 4096];
    let heard = socket.recv(&mut buffer);
    let length = heard.unwrap_or_else(|error| {
        let state = if machine.runs(name) {
            "is not ready"
        } else {
            "has ended"
        };
        panic!("{name} {state}: {error}\n{}", machine.log(name))
    });
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
