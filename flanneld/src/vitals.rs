//! What others are told about how the daemon fares: the service manager, and whoever probes it over HTTP.
//!
//! A daemon lives when its control loop turns and every worker answers when called, which they do between two
//! batches of packets. One of them stuck, nobody is told that it lives.

use crate::manager;
use control::health::{Health, LIFE};
use engine::Engine;
use std::sync::Arc;
use std::time::Duration;

/// Signs of life in the time after which somebody loses patience.
const SIGNS: u32 = 3;

/// Gives signs of life while there is reason to, and tells changes.
#[derive(Debug)]
pub(crate) struct Vitals {
    health: Health,
    every: Duration,
    due: Duration,
    status: String,
    /// Whether every worker answered when last called.
    answers: bool,
}

impl Vitals {
    /// The first sign is due at once.
    pub(crate) fn new(health: Health) -> Self {
        let patience = manager::patience().map_or(LIFE, |patience| patience.min(LIFE));
        Self {
            health,
            every: patience / SIGNS,
            due: Duration::ZERO,
            status: String::new(),
            answers: true,
        }
    }

    /// When [`Vitals::tick`] has something to do.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }

    /// Whether every worker answered when last called.
    pub(crate) fn workers_answer(&self) -> bool {
        self.answers
    }

    /// Gives a sign of life if one is due, the engine has answered the last call, and `sound` otherwise.
    pub(crate) fn tick(&mut self, engine: Option<Arc<Engine>>, sound: bool, now: Duration) {
        if now < self.due {
            return;
        }
        self.due = now + self.every;
        self.answers = engine.as_ref().is_none_or(|engine| engine.heeds());
        if sound && self.answers {
            self.health.alive(now);
            manager::alive();
        }
        if let Some(engine) = engine {
            engine.call();
        }
    }

    /// Tells probes and the service manager how the daemon fares.
    pub(crate) fn tell(&mut self, ready: bool, status: String) {
        self.health.set_ready(ready);
        if self.status != status {
            manager::status(&status);
            self.status = status;
        }
    }
}
