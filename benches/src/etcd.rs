//! A real etcd for tests: one or more members, which can be stopped, frozen, killed, wiped and compacted.
//!
//! ```no_run
//! # use benches::{Namespace, etcd::Etcd};
//! # fn demo() -> std::io::Result<()> {
//! let etcd = Etcd::start()?; // on a loopback port of its own
//! etcd.put("/coreos.com/network/config", r#"{"Network":"10.5.0.0/16"}"#)?;
//!
//! let switch = Namespace::new()?;
//! let mut etcd = Etcd::plan()
//!     .member(&switch, "127.0.0.1".parse().unwrap())? // http://127.0.0.1:2379 inside
//!     .launch()?;
//! etcd.member(0).freeze()?;
//! # Ok(())
//! # }
//! ```
//!
//! Every member ends with this value, or with the process that made it, however that ends.

mod gateway;
mod member;
mod plan;
mod v2;

pub use gateway::Gateway;
pub use member::Member;
pub use plan::{Clients, Plan};
pub use v2::V2;

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::authority::{Authority, Identity};
use crate::scratch::Scratch;

/// Members answer within this after a start, or the command that waits for them fails.
const ANSWER: &str = "--command-timeout=30s";

/// What etcd says while a leader is missing.
const LEADERLESS: [&str; 2] = ["request timed out", "no leader"];

/// A version of etcd's API: each has keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// That of flannel up to 0.17.
    V2,
    /// That of flannel since 0.18.
    V3,
}

/// What the servers are known by, and by whom.
#[derive(Debug)]
struct Secrets {
    authority: Authority,
    client: Identity,
}

/// A running store.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    secrets: Option<Secrets>,
    /// Removed after the members, which are dropped before.
    _scratch: Scratch,
}

impl Etcd {
    /// One member on the loopback of the current namespace, without TLS.
    pub fn start() -> io::Result<Self> {
        Self::plan().launch()
    }

    /// One that will be other than that.
    pub fn plan() -> Plan {
        Plan::default()
    }

    /// The URLs at which clients are served, one per member.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(Member::url).collect()
    }

    /// The same as one word, as `--etcd-endpoints` takes it.
    pub fn endpoints(&self) -> String {
        self.urls().join(",")
    }

    /// The URL of the first member.
    pub fn url(&self) -> String {
        self.members[0].url()
    }

    /// How many members there are, running or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// The same store by version 2 of its API, where the plan says so.
    pub fn v2(&self) -> V2<'_> {
        V2::new(self)
    }

    /// One member, to be treated badly.
    pub fn member(&mut self, index: usize) -> &mut Member {
        &mut self.members[index]
    }

    /// Who signed the servers' certificates, if they have any.
    pub fn authority(&self) -> Option<&Authority> {
        self.secrets.as_ref().map(|secrets| &secrets.authority)
    }

    /// The certificate file to trust, a client's certificate and its key, in the order of the daemon's flags.
    pub fn client_files(&self) -> Option<[PathBuf; 3]> {
        let secrets = self.secrets.as_ref()?;
        let client = secrets.client.clone();
        Some([
            secrets.authority.certificate(),
            client.certificate,
            client.key,
        ])
    }

    /// Runs every member that does not.
    pub fn run(&mut self) -> io::Result<()> {
        self.members.iter_mut().try_for_each(Member::begin)?;
        self.members.iter_mut().try_for_each(Member::await_ready)
    }

    /// Asks every member to end, and waits.
    pub fn stop(&mut self) -> io::Result<()> {
        self.members.iter_mut().try_for_each(Member::stop)
    }

    /// Ends every member at once.
    pub fn kill(&mut self) {
        self.members.iter_mut().for_each(Member::kill);
    }

    /// Keeps every member from doing anything, without closing a connection.
    pub fn freeze(&self) -> io::Result<()> {
        self.members.iter().try_for_each(Member::freeze)
    }

    /// Lets frozen members go on.
    pub fn thaw(&self) -> io::Result<()> {
        self.members.iter().try_for_each(Member::thaw)
    }

    /// Replaces the store by an empty one at the same address.
    pub fn wipe(&mut self) -> io::Result<()> {
        self.kill();
        self.members.iter().try_for_each(Member::forget)?;
        self.run()
    }

    /// Forgets all versions but the present ones; returns the revision this was done at.
    pub fn compact(&self) -> io::Result<i64> {
        let shown = self.ctl(&["get", "/", "--write-out=json"])?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let revision = shown["header"]["revision"]
            .as_i64()
            .ok_or_else(|| io::Error::other(format!("no revision: {shown}")))?;
        self.ctl(&["compact", &revision.to_string()])?;
        Ok(revision)
    }

    /// Writes a value.
    pub fn put(&self, key: &str, value: &str) -> io::Result<()> {
        self.ctl(&["put", "--", key, value]).map(drop)
    }

    /// Reads a value; empty where there is none.
    pub fn get(&self, key: &str) -> io::Result<String> {
        let shown = self.ctl(&["get", "--print-value-only", "--", key])?;
        Ok(shown.strip_suffix('\n').unwrap_or(&shown).to_owned())
    }

    /// All keys that begin with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> io::Result<Vec<String>> {
        let shown = self.ctl(&["get", "--prefix", "--keys-only", "--", prefix])?;
        let keys = shown.lines().filter(|line| !line.is_empty());
        Ok(keys.map(str::to_owned).collect())
    }

    /// Removes a key.
    pub fn delete(&self, key: &str) -> io::Result<()> {
        self.ctl(&["del", "--", key]).map(drop)
    }

    /// Does what an operator would; returns what is printed. While the members elect a leader it is done again.
    pub fn ctl(&self, words: &[&str]) -> io::Result<String> {
        loop {
            let output = self.ctl_command().args(words).output()?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            if self.size() == 1 || !LEADERLESS.iter().any(|word| said.contains(word)) {
                let said = format!("etcdctl {words:?}: {}", said.trim());
                return Err(io::Error::other(said));
            }
        }
    }

    /// `etcdctl` where the first member is, ready for more words.
    fn ctl_command(&self) -> Command {
        let mut command = self.members[0].place("etcdctl");
        command.env("ETCDCTL_API", "3").arg(ANSWER);
        command.args(["--endpoints", &self.endpoints()]);
        if let Some([authority, certificate, key]) = self.client_files() {
            command.arg("--cacert").arg(authority);
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(id: u32) -> bool {
        std::path::Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn what_is_put_is_found_until_the_store_is_wiped() {
        let mut etcd = Etcd::start().unwrap();
        etcd.put("/net/config", "{}").unwrap();
        etcd.put("/net/subnets/10.5.1.0-24", "--x\ny").unwrap();
        assert_eq!(etcd.get("/net/subnets/10.5.1.0-24").unwrap(), "--x\ny");
        assert_eq!(
            etcd.keys("/net/").unwrap(),
            ["/net/config", "/net/subnets/10.5.1.0-24"]
        );
        etcd.delete("/net/subnets/10.5.1.0-24").unwrap();
        assert_eq!(etcd.compact().unwrap(), 4);
        etcd.stop().unwrap();
        etcd.run().unwrap();
        assert_eq!(etcd.keys("/net/").unwrap(), ["/net/config"]);
        etcd.wipe().unwrap();
        assert!(etcd.keys("/").unwrap().is_empty());
    }

    #[test]
    fn three_members_behind_tls_live_with_the_loss_of_one() {
        let plan = Etcd::plan().clients(Clients::Certified);
        let mut etcd = (0..3)
            .fold(plan, |plan, _| plan.local_member())
            .launch()
            .unwrap();
        assert_eq!(etcd.endpoints().matches("https://127.0.0.1:").count(), 3);
        etcd.put("/net/config", "{}").unwrap();
        etcd.member(1).freeze().unwrap();
        etcd.member(2).kill();
        etcd.member(1).thaw().unwrap();
        etcd.put("/net/config", "{ }").unwrap();
        etcd.member(2).run().unwrap();
        assert_eq!(etcd.get("/net/config").unwrap(), "{ }");
    }

    #[test]
    fn a_frozen_member_and_its_guard_end_with_the_store() {
        let etcd = Etcd::start().unwrap();
        let member = etcd.members[0].id().unwrap();
        let children = format!("/proc/{member}/task/{member}/children");
        let guard = std::fs::read_to_string(children).unwrap();
        let guard = guard.trim().parse().unwrap();
        etcd.freeze().unwrap();
        drop(etcd);
        assert!(!runs(member));
        while runs(guard) {
            std::thread::yield_now();
        }
    }
}
