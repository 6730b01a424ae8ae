//! Keeps this node's lease: renews it in time, takes it back when it vanished, and never fights over it.

use crate::lease::{Lease, LeaseAttrs};
use crate::registry::{News, Registry, RegistryError};
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};

/// Pause between attempts while the registry does not answer.
const RETRY: Duration = Duration::from_secs(10);

/// This node's lease and what is known of its record.
pub struct Hold {
    registry: Arc<dyn Registry>,
    lease: Lease,
    margin: Duration,
    state: State,
    /// When to act next, in time since boot.
    due: Option<Duration>,
    failing: bool,
}

/// Whose record stands under our subnet's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ours,
    Missing,
    /// Traffic goes on as it is; an operator must decide.
    Taken,
}

impl Hold {
    /// Takes charge of a lease acquired or renewed just now; renews it `margin` before its end.
    pub fn new(registry: Arc<dyn Registry>, lease: Lease, margin: Duration, now: Duration) -> Self {
        let mut hold = Self {
            registry,
            lease,
            margin,
            state: State::Ours,
            due: None,
            failing: false,
        };
        hold.schedule(now);
        hold
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// When [`Hold::tick`] has something to do, in time since boot.
    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Looks in a report for what concerns our record.
    pub fn hear(&mut self, news: &News, now: Duration) {
        let key = self.lease.key;
        match news {
            News::Put(lease) if lease.key == key => self.found(lease, now),
            News::Gone(gone) if *gone == key => self.vanished(now),
            News::Bad(record) if record.name == key.to_string() => {
                self.taken("something unreadable")
            }
            News::Snapshot(all) => match all.leases.iter().find(|lease| lease.key == key) {
                Some(lease) => self.found(lease, now),
                None if all.bad.iter().any(|record| record.name == key.to_string()) => {
                    self.taken("something unreadable")
                }
                None => self.vanished(now),
            },
            _ => {}
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let outcome = match self.state {
            State::Ours => self.registry.renew(&self.lease, &self.lease.attrs),
            State::Missing => self.registry.create(self.lease.key, &self.lease.attrs),
            State::Taken => return self.due = None,
        };
        match outcome {
            Ok(lease) => self.renewed(lease, now),
            Err(RegistryError::Conflict(_)) => self.look(now),
            Err(error) => self.failed(&error, now),
        }
    }

    fn found(&mut self, lease: &Lease, now: Duration) {
        if !lease.attrs.same_node(&self.lease.attrs) {
            return self.taken(&format!(
                "a record of another node: {}",
                lease.attrs.to_json()
            ));
        }
        self.state = State::Ours;
        if lease.reserved != self.lease.reserved {
            info!("our lease is now {lease}");
        }
        let ours = std::mem::replace(&mut self.lease.attrs, lease.attrs.clone());
        if (self.lease.revision, self.lease.reserved) != (lease.revision, lease.reserved) {
            (self.lease.revision, self.lease.reserved) = (lease.revision, lease.reserved);
            self.schedule(now);
        }
        self.restore(ours, now);
    }

    /// What we say about ourselves is ours to say.
    fn restore(&mut self, ours: LeaseAttrs, now: Duration) {
        if self.lease.attrs != ours {
            warn!(
                "our lease record was changed to {}; writing it anew",
                self.lease.attrs.to_json()
            );
            self.lease.attrs = ours;
            self.due = Some(now);
        }
    }

    fn vanished(&mut self, now: Duration) {
        if self.state == State::Missing {
            return;
        }
        warn!(
            "our lease {} has vanished from the registry; taking it back",
            self.lease.key
        );
        self.state = State::Missing;
        self.due = Some(now);
    }

    fn taken(&mut self, by: &str) {
        if self.state == State::Taken {
            return;
        }
        error!(
            "our subnet {} is now held by {by}. Traffic goes on as it is; remove that record to get the subnet back, or restart this daemon to get another",
            self.lease.key
        );
        self.state = State::Taken;
        self.due = None;
    }

    /// Somebody was faster; who?
    fn look(&mut self, now: Duration) {
        match self.registry.snapshot() {
            Ok(all) => {
                self.hear(&News::Snapshot(all), now);
                if self.state == State::Missing {
                    self.due = Some(now + RETRY);
                }
            }
            Err(error) => self.failed(&error, now),
        }
    }

    fn renewed(&mut self, lease: Lease, now: Duration) {
        if self.state == State::Missing {
            info!("our lease {} is in the registry again", lease.key);
        } else {
            info!("lease {} renewed", lease.key);
        }
        self.lease = lease;
        self.state = State::Ours;
        self.failing = false;
        self.schedule(now);
    }

    fn failed(&mut self, error: &RegistryError, now: Duration) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!("cannot renew our lease: {error}; trying on");
        }
        self.due = Some(now + RETRY);
    }

    /// A reservation needs no renewing.
    fn schedule(&mut self, now: Duration) {
        let lease_time = self.registry.lease_time();
        let wait = lease_time.saturating_sub(self.margin).max(lease_time / 2);
        self.due = (!self.lease.reserved).then_some(now + wait);
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Hold")
            .field("lease", &self.lease)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::FileRegistry;
    use crate::subnet_key::SubnetKey;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    const DAY: Duration = Duration::from_secs(86400);
    const MARGIN: Duration = Duration::from_secs(3600);
    const NOW: Duration = Duration::from_secs(1000);

    struct Scene {
        dir: TempDir,
        registry: Arc<dyn Registry>,
        hold: Hold,
    }

    fn key() -> SubnetKey {
        "10.5.1.0-24".parse().unwrap()
    }

    fn node(address: &str) -> LeaseAttrs {
        LeaseAttrs {
            public_ip: Some(address.parse().unwrap()),
            ..LeaseAttrs::default()
        }
    }

    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let registry: Arc<dyn Registry> = Arc::new(FileRegistry::open(dir.path(), DAY).unwrap());
        let lease = registry.create(key(), &node("1.2.3.4")).unwrap();
        let hold = Hold::new(Arc::clone(&registry), lease, MARGIN, NOW);
        Scene {
            dir,
            registry,
            hold,
        }
    }

    impl Scene {
        /// Lets the hold see the registry as it is, as a watch would.
        fn look(&mut self) {
            let all = self.registry.snapshot().unwrap();
            self.hold.hear(&News::Snapshot(all), NOW);
        }

        fn records(&self) -> Vec<Lease> {
            self.registry.snapshot().unwrap().leases
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join("subnets").join(key().to_string())
        }

        fn overwrite(&self, value: &str) {
            fs::write(self.path(), value).unwrap();
        }
    }

    #[test]
    fn renew_lease_in_time_with_attributes_unchanged() {
        let mut scene = scene();
        let due = NOW + DAY - MARGIN;
        assert_eq!(scene.hold.due(), Some(due));
        let before = scene.hold.lease().clone();
        scene.hold.tick(due - Duration::from_secs(1));
        assert_eq!(scene.records(), std::slice::from_ref(&before));
        scene.hold.tick(due);
        assert_eq!(scene.hold.due(), Some(due + DAY - MARGIN));
        assert_eq!(scene.records()[0].attrs, before.attrs);
        assert_ne!(scene.records()[0].revision, before.revision);
    }

    #[test]
    fn a_margin_longer_than_the_lease_does_not_renew_in_a_loop() {
        let Scene {
            registry,
            hold,
            dir: _dir,
        } = scene();
        let hold = Hold::new(registry, hold.lease().clone(), 2 * DAY, NOW);
        assert_eq!(hold.due(), Some(NOW + DAY / 2));
    }

    #[test]
    fn a_vanished_lease_is_taken_back() {
        // Stock shuts down with exit code 0, which service managers take for the end of work.
        let mut scene = scene();
        fs::remove_file(scene.path()).unwrap();
        scene.look();
        scene.hold.tick(NOW);
        assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
    }

    #[test]
    fn a_renewal_that_finds_no_record_takes_the_lease_back() {
        let mut scene = scene();
        fs::remove_file(scene.path()).unwrap();
        let due = scene.hold.due().unwrap();
        scene.hold.tick(due);
        scene.hold.tick(scene.hold.due().unwrap());
        assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
    }

    #[test]
    fn another_nodes_record_is_never_overwritten() {
        // Stock writes its renewal over whatever stands there.
        let mut scene = scene();
        let due = scene.hold.due().unwrap();
        scene.overwrite(r#"{"PublicIP":"1.2.3.5"}"#);
        scene.hold.tick(due);
        scene.look();
        assert_eq!(
            (scene.records()[0].attrs.clone(), scene.hold.due()),
            (node("1.2.3.5"), None)
        );
        fs::remove_file(scene.path()).unwrap();
        scene.look();
        scene.hold.tick(NOW);
        assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
    }

    #[test]
    fn nonsense_in_our_records_place_is_left_to_an_operator() {
        let mut scene = scene();
        scene.overwrite("nonsense");
        scene.look();
        assert_eq!(scene.hold.due(), None);
        assert_eq!(fs::read_to_string(scene.path()).unwrap(), "nonsense");
    }

    #[test]
    fn what_our_record_says_about_us_is_set_right() {
        let mut scene = scene();
        scene.overwrite(r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan"}"#);
        scene.look();
        scene.hold.tick(NOW);
        assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
    }

    #[test]
    fn a_reservation_is_not_renewed() {
        // Stock attaches an end to it.
        let mut scene = scene();
        fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o444)).unwrap();
        scene.look();
        assert_eq!(scene.hold.due(), None);
    }

    #[test]
    fn an_unreachable_registry_is_tried_again() {
        let mut scene = scene();
        let due = scene.hold.due().unwrap();
        let (here, away) = (
            scene.dir.path().join("subnets"),
            scene.dir.path().join("away"),
        );
        fs::rename(&here, &away).unwrap();
        // Without its directory a record is as good as gone; the snapshot that follows cannot be read.
        scene.hold.tick(due);
        assert_eq!(scene.hold.due(), Some(due + RETRY));
        fs::rename(&away, &here).unwrap();
        scene.hold.tick(due + RETRY);
        assert_eq!(scene.hold.due(), Some(due + RETRY + DAY - MARGIN));
    }
}
