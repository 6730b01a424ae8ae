//! What becomes of a lease, over a real store.

use super::*;
use crate::registry::FileRegistry;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86400);
const MARGIN: Duration = Duration::from_secs(3600);
const NOW: Duration = Duration::from_secs(1000);
const TERMS: Terms = Terms {
    lease_time: DAY,
    margin: MARGIN,
};

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
    let hold = Hold::new(lease, TERMS, NOW);
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

    /// Does what is due, and all that becomes due by that.
    fn tick(&mut self, now: Duration) {
        while let Some(call) = self.hold.tick(now) {
            assert_eq!(self.hold.due(), None, "one call at a time");
            let answer = call.make(&*self.registry);
            self.hold.answered(answer, now);
        }
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
    scene.tick(due - Duration::from_secs(1));
    assert_eq!(scene.records(), std::slice::from_ref(&before));
    scene.tick(due);
    assert_eq!(scene.hold.due(), Some(due + DAY - MARGIN));
    assert_eq!(scene.records()[0].attrs, before.attrs);
    assert_ne!(scene.records()[0].revision, before.revision);
}

#[test]
fn a_margin_longer_than_the_lease_does_not_renew_in_a_loop() {
    let terms = Terms {
        margin: 2 * DAY,
        ..TERMS
    };
    let hold = Hold::new(scene().hold.lease().clone(), terms, NOW);
    assert_eq!(hold.due(), Some(NOW + DAY / 2));
}

#[test]
fn a_vanished_lease_is_taken_back() {
    // Stock shuts down with exit code 0, which service managers take for the end of work.
    let mut scene = scene();
    fs::remove_file(scene.path()).unwrap();
    scene.look();
    scene.tick(NOW);
    assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
}

#[test]
fn a_renewal_that_finds_no_record_takes_the_lease_back() {
    let mut scene = scene();
    fs::remove_file(scene.path()).unwrap();
    scene.tick(scene.hold.due().unwrap());
    scene.tick(scene.hold.due().unwrap());
    assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
}

#[test]
fn another_nodes_record_is_never_overwritten() {
    // Stock writes its renewal over whatever stands there.
    let mut scene = scene();
    let due = scene.hold.due().unwrap();
    scene.overwrite(r#"{"PublicIP":"1.2.3.5"}"#);
    scene.tick(due);
    scene.look();
    assert_eq!(
        (scene.records()[0].attrs.clone(), scene.hold.due()),
        (node("1.2.3.5"), None)
    );
    fs::remove_file(scene.path()).unwrap();
    scene.look();
    scene.tick(NOW);
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
    scene.tick(NOW);
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
    scene.tick(due);
    assert_eq!(scene.hold.due(), Some(due + RETRY));
    fs::rename(&away, &here).unwrap();
    scene.tick(due + RETRY);
    assert_eq!(scene.hold.due(), Some(due + RETRY + DAY - MARGIN));
}

#[test]
fn a_changed_address_is_published_in_our_own_record_and_the_subnet_is_kept() {
    // Stock keeps announcing the old address, and after a restart takes another subnet.
    let mut scene = scene();
    scene.hold.publish(node("1.2.3.9"), NOW);
    // What the registry reports before the new record is there is no other node's.
    scene.look();
    scene.tick(NOW);
    let records = scene.records();
    assert_eq!(
        (records[0].key, &records[0].attrs),
        (key(), &node("1.2.3.9"))
    );
    scene.look();
    assert!(scene.hold.is_held());
}

#[test]
fn a_changed_address_does_not_overwrite_what_another_node_wrote_meanwhile() {
    let mut scene = scene();
    scene.overwrite(r#"{"PublicIP":"1.2.3.5"}"#);
    scene.hold.publish(node("1.2.3.9"), NOW);
    scene.tick(NOW);
    assert_eq!(scene.records()[0].attrs, node("1.2.3.5"));
    assert!(!scene.hold.is_held());
}

#[test]
fn a_remembered_lease_is_renewed_as_soon_as_the_registry_answers() {
    let mut scene = scene();
    let mut lease = scene.hold.lease().clone();
    lease.revision = Default::default();
    let said = lease.attrs.clone();
    scene.hold = Hold::remembered(lease, said, TERMS);
    assert_eq!((scene.hold.due(), scene.hold.is_held()), (None, false));
    let before = scene.records();
    scene.look();
    scene.tick(NOW);
    assert_ne!(scene.records()[0].revision, before[0].revision);
    assert_eq!(scene.hold.due(), Some(NOW + DAY - MARGIN));
}

#[test]
fn a_remembered_lease_that_another_node_holds_now_is_left_to_it() {
    let mut scene = scene();
    let lease = scene.hold.lease().clone();
    scene.hold = Hold::remembered(lease.clone(), lease.attrs, TERMS);
    scene.overwrite(r#"{"PublicIP":"1.2.3.5"}"#);
    scene.look();
    scene.tick(NOW);
    assert_eq!(scene.records()[0].attrs, node("1.2.3.5"));
}

#[test]
fn a_record_removed_while_it_was_being_renewed_is_looked_for() {
    let mut scene = scene();
    let due = scene.hold.due().unwrap();
    let call = scene.hold.tick(due).unwrap();
    let answer = call.make(&*scene.registry);
    fs::remove_file(scene.path()).unwrap();
    scene.hold.hear(&News::Gone(key()), due);
    scene.hold.answered(answer, due);
    scene.tick(due);
    scene.tick(due + RETRY);
    assert_eq!(scene.records()[0].attrs, node("1.2.3.4"));
}

#[test]
fn a_record_heard_of_before_the_answer_to_its_writing_is_ours() {
    let mut scene = scene();
    fs::remove_file(scene.path()).unwrap();
    scene.look();
    let call = scene.hold.tick(NOW).unwrap();
    let answer = call.make(&*scene.registry);
    scene.hold.hear(&News::Put(scene.records().remove(0)), NOW);
    scene.hold.answered(answer, NOW);
    assert_eq!(scene.hold.due(), Some(NOW + DAY - MARGIN));
}

#[test]
fn two_running_nodes_with_one_public_address_hear_of_each_other_and_do_not_quarrel() {
    // Stock nodes share the subnet in silence.
    let mut scene = scene();
    let twin = acquired_again(&scene);
    let mut other = Hold::new(twin.clone(), TERMS, NOW);
    scene.hold.hear(&News::Put(twin), NOW);
    scene.tick(NOW);
    let answer = scene.records().remove(0);
    other.hear(&News::Put(answer), NOW);
    let renewal = other.tick(NOW).expect("the twin answers once");
    let Answer::Written(renewed) = renewal.make(&*scene.registry) else {
        panic!("renewed");
    };
    scene.hold.hear(&News::Put(renewed), NOW);
    assert_eq!(
        scene.hold.due(),
        Some(NOW + DAY - MARGIN),
        "and that is all"
    );
}

#[test]
fn a_twin_that_answered_before_the_first_snapshot_is_heard_of() {
    let mut scene = scene();
    acquired_again(&scene);
    scene.look();
    assert_eq!(scene.hold.due(), Some(NOW), "it is told, too");
}

/// What a node with the same address gets when it starts.
fn acquired_again(scene: &Scene) -> Lease {
    let held = scene.records().remove(0);
    scene.registry.renew(&held, &held.attrs).unwrap()
}
