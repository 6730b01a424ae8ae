//! Keeps lines of ours in the kernel's tables: what shall stand is compared with what we put before and with what
//! stands now, so that only the difference is touched, what others took away comes back, and what others made stays.

use super::netlink::{Change, Entry, Netlink};
use crate::mac::Mac;
use std::collections::BTreeSet;
use std::io;

/// Remembers which lines are ours.
#[derive(Debug, Default)]
pub struct Keeper {
    mine: BTreeSet<Entry>,
}

impl Keeper {
    /// Takes lines of an earlier run for ours.
    pub fn adopt(&mut self, found: impl IntoIterator<Item = Entry>) {
        self.mine.extend(found);
    }

    /// The lines that are ours.
    pub fn mine(&self) -> impl Iterator<Item = Entry> {
        self.mine.iter().copied()
    }

    /// Makes all wanted lines stand, and removes of ours what is not wanted any more; tells whether somebody else
    /// had removed some. New lines come before old ones go, so that a destination that moves is never without one.
    pub fn keep(
        &mut self,
        netlink: &mut Netlink,
        wanted: BTreeSet<Entry>,
        standing: &BTreeSet<Entry>,
    ) -> io::Result<bool> {
        let missing: Vec<Entry> = wanted.difference(standing).copied().collect();
        let lost = missing.iter().any(|entry| self.mine.contains(entry));
        let mut stale: Vec<Entry> = self.mine.intersection(standing).copied().collect();
        stale.retain(|entry| !wanted.contains(entry) && !replaced(entry, &wanted));
        stale.reverse();
        self.mine = wanted;

        let puts = missing.iter().copied().map(Change::Put);
        let changes: Vec<Change> = puts.chain(stale.into_iter().map(Change::Remove)).collect();
        let outcomes = netlink.change(&changes)?;
        let failed: Vec<(Change, io::Error)> = changes
            .into_iter()
            .zip(outcomes)
            .filter_map(|(change, outcome)| Some((change, outcome.err()?)))
            .filter(|(change, error)| !harmless(change, error))
            .collect();
        for (change, _) in &failed {
            match change {
                // It has never stood, so nobody has taken it away when it is missing next time.
                Change::Put(entry) => self.mine.remove(entry),
                Change::Remove(entry) => self.mine.insert(*entry),
            };
        }
        complaint(&failed).map_or(Ok(lost), Err)
    }
}

/// A neighbour is removed by its address alone, so a new line for that address must not be taken for the old one.
fn replaced(entry: &Entry, wanted: &BTreeSet<Entry>) -> bool {
    let Entry::Neighbour {
        interface, address, ..
    } = *entry
    else {
        return false;
    };
    let line = |mac| Entry::Neighbour {
        interface,
        address,
        mac,
    };
    let same = line(Mac([0; 6]))..=line(Mac([0xff; 6]));
    wanted.range(same).next().is_some()
}

/// What is to be removed may have gone by itself in the meantime, as with its link.
fn harmless(change: &Change, error: &io::Error) -> bool {
    const GONE: [i32; 4] = [2, 3, 19, 99]; // ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL
    matches!(change, Change::Remove(_))
        && error
            .raw_os_error()
            .is_some_and(|code| GONE.contains(&code))
}

/// All failures in one sentence.
fn complaint(failed: &[(Change, io::Error)]) -> Option<io::Error> {
    let (change, error) = failed.first()?;
    let first = match change {
        Change::Put(entry) => format!("cannot set the {entry}: {error}"),
        Change::Remove(entry) => format!("cannot remove the {entry}: {error}"),
    };
    let text = match failed.len() - 1 {
        0 => first,
        more => format!("{first} (and {more} more)"),
    };
    Some(io::Error::new(error.kind(), text))
}
