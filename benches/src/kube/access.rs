//! Who may ask, by bearer tokens that end, and what: verbs on resources, as a ClusterRole grants them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::status::Failure;

/// Who may do everything, as an administrator.
pub(super) const ADMIN: &str = "administrator";
/// The service account all other tokens are of.
const USER: &str = "system:serviceaccount:kube-flannel:flannel";
const LONG: Duration = Duration::from_secs(86400);

/// What a role grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What may be asked about, as `nodes` or `nodes/status`.
    pub resources: Vec<String>,
    /// What may be asked, as `get` or `patch`.
    pub verbs: Vec<String>,
}

impl Rule {
    /// A rule of words with blanks between them.
    pub fn new(resources: &str, verbs: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self {
            resources: words(resources),
            verbs: words(verbs),
        }
    }

    fn allows(&self, verb: &str, resource: &str) -> bool {
        self.resources.iter().any(|one| one == resource) && self.verbs.iter().any(|one| one == verb)
    }
}

/// Tokens and rules.
#[derive(Debug)]
pub(super) struct Access {
    /// When each token ends.
    tokens: BTreeMap<String, Instant>,
    rules: Vec<Rule>,
}

impl Access {
    /// Nobody is let in yet; who is may do what flannel has to.
    pub(super) fn new() -> Self {
        Self {
            tokens: BTreeMap::new(),
            rules: vec![
                Rule::new("pods", "get"),
                Rule::new("nodes", "get list watch"),
                Rule::new("nodes/status", "patch"),
            ],
        }
    }

    pub(super) fn accept_only(&mut self, token: &str, lifetime: Duration) {
        let ends = Instant::now() + lifetime.min(LONG);
        self.tokens = BTreeMap::from([(token.to_owned(), ends)]);
    }

    pub(super) fn grant(&mut self, rules: Vec<Rule>) {
        self.rules = rules;
    }

    /// Whether the bearer of what the header says may do this.
    pub(super) fn check(
        &self,
        header: Option<&str>,
        verb: &str,
        resource: &str,
        name: &str,
    ) -> Result<(), Failure> {
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        if token == Some(ADMIN) {
            return Ok(());
        }
        let ends = token.and_then(|token| self.tokens.get(token));
        if ends.is_none_or(|ends| *ends <= Instant::now()) {
            return Err(Failure::unauthorized());
        }
        match self.rules.iter().any(|rule| rule.allows(verb, resource)) {
            true => Ok(()),
            false => Err(Failure::forbidden(USER, verb, resource, name)),
        }
    }
}
