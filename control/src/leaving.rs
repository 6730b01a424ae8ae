//! Records removed a moment ago. A node whose record somebody deletes writes it again at once; until it had the
//! time to, the others go on as if nothing had happened. Pure.

use crate::registry::News;
use crate::subnet_key::SubnetKey;
use std::collections::BTreeMap;
use std::time::Duration;

/// Two answers of a store, with a little to spare; a peer that is really gone misses nothing by it.
const LINGER: Duration = Duration::from_millis(20);

/// Removals held back, and until when, in time since boot.
#[derive(Debug, Default)]
pub(crate) struct Leaving(BTreeMap<SubnetKey, Duration>);

impl Leaving {
    /// Keeps a removal back; passes on everything else, which may make removals held back void.
    pub(crate) fn hold_back(&mut self, news: News, now: Duration) -> Option<News> {
        match &news {
            News::Gone(key) => {
                self.0.insert(*key, now + LINGER);
                return None;
            }
            News::Put(lease) => drop(self.0.remove(&lease.key)),
            News::Bad(record) => {
                record.name.parse().ok().map(|key| self.0.remove(&key));
            }
            News::Snapshot(_) => self.0.clear(),
            News::Config(_) | News::Lost(_) | News::Regained => {}
        }
        Some(news)
    }

    /// When the next one is to be believed.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.0.values().min().copied()
    }

    /// Those to be believed now.
    pub(crate) fn over(&mut self, now: Duration) -> Vec<SubnetKey> {
        let over = self.0.extract_if(.., |_, until| *until <= now);
        over.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Lease, LeaseAttrs, Revision};
    use crate::registry::Snapshot;

    const NOW: Duration = Duration::from_secs(1000);

    fn key() -> SubnetKey {
        "10.5.2.0-24".parse().unwrap()
    }

    fn removed() -> Leaving {
        let mut leaving = Leaving::default();
        assert_eq!(leaving.hold_back(News::Gone(key()), NOW), None);
        leaving
    }

    #[test]
    fn a_removal_is_believed_a_moment_later() {
        let mut leaving = removed();
        assert!(leaving.over(NOW).is_empty());
        assert_eq!(leaving.due(), Some(NOW + LINGER));
        assert_eq!(leaving.over(NOW + LINGER), [key()]);
        assert_eq!(leaving.due(), None);
    }

    #[test]
    fn a_record_written_again_was_never_gone() {
        let lease = Lease {
            key: key(),
            attrs: LeaseAttrs::default(),
            reserved: false,
            revision: Revision::default(),
        };
        for news in [News::Put(lease), News::Snapshot(Snapshot::default())] {
            let mut leaving = removed();
            assert_eq!(leaving.hold_back(news.clone(), NOW), Some(news));
            assert!(leaving.over(NOW + LINGER).is_empty());
        }
    }
}
