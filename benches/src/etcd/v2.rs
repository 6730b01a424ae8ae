//! A store by version 2 of etcd's API, which has keys of its own beside those of version 3.

use std::io;
use std::process::Command;

use super::{Api, Etcd};

/// The hands an operator of an old cluster has.
#[derive(Clone, Copy, Debug)]
pub struct V2<'a>(&'a Etcd);

impl<'a> V2<'a> {
    pub(super) fn new(etcd: &'a Etcd) -> Self {
        Self(etcd)
    }

    /// Writes a value that lasts.
    pub fn put(self, key: &str, value: &str) -> io::Result<()> {
        self.ctl(&["set", "--", key, value]).map(drop)
    }

    /// Writes a value that lasts for so many seconds.
    pub fn put_for(self, seconds: u32, key: &str, value: &str) -> io::Result<()> {
        let ttl = format!("--ttl={seconds}");
        self.ctl(&["set", &ttl, "--", key, value]).map(drop)
    }

    /// Reads a value; empty where there is none.
    pub fn get(self, key: &str) -> io::Result<String> {
        match self.ctl(&["get", "--", key]) {
            Err(error) if error.to_string().contains("Key not found") => Ok(String::new()),
            shown => shown.map(|shown| shown.strip_suffix('\n').unwrap_or(&shown).to_owned()),
        }
    }

    /// The keys in a directory, in order; none where it is not there.
    pub fn keys(self, directory: &str) -> io::Result<Vec<String>> {
        match self.ctl(&["ls", "--sort", "--", directory]) {
            Err(error) if error.to_string().contains("Key not found") => Ok(Vec::new()),
            shown => Ok(shown?.lines().map(str::to_owned).collect()),
        }
    }

    /// Removes a key.
    pub fn delete(self, key: &str) -> io::Result<()> {
        self.ctl(&["rm", "--", key]).map(drop)
    }

    /// Makes so many changes to a key nobody reads: of more than a thousand a server forgets the first. On a busy
    /// machine it lets some take too long, and those are made again.
    pub fn churn(self, count: usize) -> io::Result<()> {
        let gateway = self.0.members[0].gateway()?.by(Api::V2);
        let change = || gateway.put("/churn", b"x");
        (0..count).try_for_each(|_| change().or_else(|_| change()))
    }

    /// Does what an operator would; returns what is printed.
    pub fn ctl(self, words: &[&str]) -> io::Result<String> {
        let output = self.command().args(words).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "etcdctl {words:?}: {}",
            said.trim()
        )))
    }

    fn command(self) -> Command {
        let mut command = self.0.members[0].place("etcdctl");
        command.env("ETCDCTL_API", "2");
        command.args(["--no-sync", "--total-timeout=30s", "--endpoints"]);
        command.arg(self.0.endpoints());
        if let Some([authority, certificate, key]) = self.0.client_files() {
            command.arg("--ca-file").arg(authority);
            command.arg("--cert-file").arg(certificate);
            command.arg("--key-file").arg(key);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_know_nothing_of_each_others_keys() {
        let etcd = Etcd::plan().version_2().launch().unwrap();
        etcd.put("/net/config", "new").unwrap();
        etcd.v2().put("/net/config", "old").unwrap();
        etcd.v2()
            .put_for(60, "/net/subnets/10.5.1.0-24", "x")
            .unwrap();
        assert_eq!(etcd.get("/net/config").unwrap(), "new");
        assert_eq!(etcd.v2().get("/net/config").unwrap(), "old");
        assert_eq!(
            etcd.v2().keys("/net/subnets").unwrap(),
            ["/net/subnets/10.5.1.0-24"]
        );
        etcd.v2().delete("/net/subnets/10.5.1.0-24").unwrap();
        assert_eq!(etcd.v2().get("/net/subnets/10.5.1.0-24").unwrap(), "");
        etcd.v2().churn(20).unwrap();
        assert_eq!(etcd.keys("/net/").unwrap(), ["/net/config"]);
    }
}
