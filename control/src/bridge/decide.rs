//! What is to be done about a subnet, by what stands in the two stores. Nothing else counts, so a bridge may be ended
//! and begun again at any moment.

use crate::lease::{Lease, LeaseAttrs, VtepData};
use crate::mac::Mac;

/// What stands under a subnet's name in one store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    Nothing,
    /// A node's own record.
    Record(&'a Lease),
    /// A copy this bridge has made.
    Copy(&'a Lease),
    /// Something that is not ours to touch or to copy.
    Foreign,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step<'a> {
    Nothing,
    /// Write a copy of the record into the store that has none.
    Copy(&'a Lease, Way),
    /// Hold the copy against the record, and write it anew where it is not as it should be.
    Compare(&'a Lease, &'a Lease, Way),
    /// Remove the copies whose record is gone.
    Remove([Option<&'a Lease>; 2]),
    /// An operator should know; nothing can be done here.
    Tell(Trouble<'a>),
}

/// From which of the two stores to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// What only an operator can resolve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trouble<'a> {
    /// Two nodes hold one subnet.
    Conflict([&'a Lease; 2]),
    /// One node has two records that say different things.
    Differing([&'a Lease; 2]),
}

/// What to do about a subnet.
pub(super) fn decide<'a>(standing: [Standing<'a>; 2]) -> Step<'a> {
    use Standing::{Copy, Nothing, Record};
    match standing {
        [Record(record), Nothing] => Step::Copy(record, Way { from: 0, to: 1 }),
        [Nothing, Record(record)] => Step::Copy(record, Way { from: 1, to: 0 }),
        [Record(record), Copy(copy)] => Step::Compare(record, copy, Way { from: 0, to: 1 }),
        [Copy(copy), Record(record)] => Step::Compare(record, copy, Way { from: 1, to: 0 }),
        [Copy(copy), Nothing] => Step::Remove([Some(copy), None]),
        [Nothing, Copy(copy)] => Step::Remove([None, Some(copy)]),
        [Copy(one), Copy(other)] => Step::Remove([Some(one), Some(other)]),
        [Record(one), Record(other)] => both([one, other]),
        _ => Step::Nothing,
    }
}

fn both<'a>(records: [&'a Lease; 2]) -> Step<'a> {
    let [one, other] = records.map(|record| &record.attrs);
    if !one.same_node(other) {
        return Step::Tell(Trouble::Conflict(records));
    }
    match reached(one) == reached(other) {
        true => Step::Nothing,
        false => Step::Tell(Trouble::Differing(records)),
    }
}

/// How a record says that its node is reached. Old and new flannel write the same in different words.
fn reached(attrs: &LeaseAttrs) -> (Option<std::net::Ipv6Addr>, &str, [Option<Mac>; 2]) {
    let mac = |data| VtepData::parse(data).ok().map(|data| data.mac);
    let macs = [&attrs.backend_data, &attrs.backend_v6_data];
    (
        attrs.public_ipv6,
        &attrs.backend_type,
        macs.map(|data| data.as_ref().and_then(mac)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Revision;

    fn lease(value: &str) -> Lease {
        Lease {
            key: "10.5.1.0-24".parse().unwrap(),
            attrs: LeaseAttrs::parse(value).unwrap(),
            reserved: false,
            revision: Revision::default(),
        }
    }

    fn node(last: u8) -> Lease {
        lease(&format!(r#"{{"PublicIP":"192.168.77.{last}"}}"#))
    }

    #[test]
    fn a_record_is_copied_where_there_is_nothing_and_nowhere_else() {
        let one = node(1);
        let (record, copy) = (Standing::Record(&one), Standing::Copy(&one));
        let there = Way { from: 0, to: 1 };
        let back = Way { from: 1, to: 0 };
        assert_eq!(decide([record, Standing::Nothing]), Step::Copy(&one, there));
        assert_eq!(decide([Standing::Nothing, record]), Step::Copy(&one, back));
        assert_eq!(decide([record, copy]), Step::Compare(&one, &one, there));
        assert_eq!(decide([copy, record]), Step::Compare(&one, &one, back));
        for foreign in [
            [record, Standing::Foreign],
            [Standing::Foreign, record],
            [copy, Standing::Foreign],
            [Standing::Foreign, Standing::Nothing],
        ] {
            assert_eq!(decide(foreign), Step::Nothing, "{foreign:?}");
        }
    }

    #[test]
    fn a_copy_without_its_record_is_removed_and_never_copied_back() {
        let one = node(1);
        let copy = Standing::Copy(&one);
        let nothing = Standing::Nothing;
        assert_eq!(decide([copy, nothing]), Step::Remove([Some(&one), None]));
        assert_eq!(decide([nothing, copy]), Step::Remove([None, Some(&one)]));
        assert_eq!(decide([copy, copy]), Step::Remove([Some(&one), Some(&one)]));
        assert_eq!(decide([nothing, nothing]), Step::Nothing);
    }

    #[test]
    fn two_records_are_left_to_their_nodes() {
        let (one, other) = (node(1), node(2));
        let records = [Standing::Record(&one), Standing::Record(&other)];
        let conflict = Step::Tell(Trouble::Conflict([&one, &other]));
        assert_eq!(decide(records), conflict);
        assert_eq!(decide([records[0], records[0]]), Step::Nothing);
    }

    #[test]
    fn one_node_with_two_records_is_told_of_where_they_say_different_things() {
        let words = [
            r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:01"}}"#,
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}"#,
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}}"#,
        ];
        let [old, new, moved] = words.map(lease);
        let [old, new, moved] = [&old, &new, &moved].map(Standing::Record);
        assert_eq!(decide([old, new]), Step::Nothing);
        assert!(matches!(
            decide([old, moved]),
            Step::Tell(Trouble::Differing(_))
        ));
    }
}
