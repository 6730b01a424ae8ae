//! Whether the store of leases answers, since when, and why not.

use std::time::Duration;

/// What is known of the store. Times are since boot.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    state: State,
    since: Duration,
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not been heard of since the start from memory.
    Never,
    There,
    Lost,
}

impl Contact {
    /// It answered a moment ago, or has not been heard of yet.
    pub(crate) fn new(heard: bool, now: Duration) -> Self {
        Self {
            state: if heard { State::There } else { State::Never },
            since: now,
            why: None,
        }
    }

    /// It answers.
    pub(crate) fn found(&mut self, now: Duration) {
        self.enter(State::There, None, now);
    }

    /// It does not answer.
    pub(crate) fn lost(&mut self, why: &str, now: Duration) {
        self.enter(State::Lost, Some(why.to_owned()), now);
    }

    fn enter(&mut self, state: State, why: Option<String>, now: Duration) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
        self.why = why;
    }

    /// Whether it answers, as far as is known.
    pub(crate) fn answers(&self) -> bool {
        self.state == State::There
    }

    /// Since when that has been so.
    pub(crate) fn since(&self) -> Duration {
        self.since
    }

    /// Why it does not answer, where that was told.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// In a few words.
    pub(crate) fn told(&self) -> &'static str {
        match self.state {
            State::There => "in touch with the store",
            State::Lost => "the store does not answer",
            State::Never => "started from memory, the store does not answer",
        }
    }
}
