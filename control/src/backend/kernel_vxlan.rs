//! A kernel VXLAN device: packets never enter this process. For each peer the kernel is told three things: the
//! Ethernet address behind the first address of its subnet, the node that holds this Ethernet address, and the
//! route to the subnet by way of the first.
//!
//! When the daemon ends all of this stays, and packets travel on. The next start takes it over as it is; one with
//! another backend removes the device, and with it everything else.

use crate::host::keeper::Keeper;
use crate::host::vxlan::VxlanSetup;
use crate::host::{Entry, Netlink};
use crate::mac::Mac;
use crate::sink::{Peer, PeerForm, TableSink};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

/// The devices, one per address family, and what they know of peers.
#[derive(Debug)]
pub struct KernelVxlan {
    netlink: Netlink,
    devices: Vec<VxlanSetup>,
    keeper: Keeper,
    /// The last table, once there was one.
    peers: Option<Vec<Peer>>,
}

/// Kernel numbers of the devices that are there.
type Indices = BTreeMap<bool, u32>;

impl KernelVxlan {
    /// Sees to the devices, and takes over what they know from an earlier run.
    pub fn start(devices: Vec<VxlanSetup>) -> io::Result<Self> {
        let mut sink = Self {
            netlink: Netlink::open()?,
            devices,
            keeper: Keeper::default(),
            peers: None,
        };
        let (indices, _) = sink.see_to_devices(true)?;
        let known = sink.standing(&indices)?;
        sink.keeper.adopt(known);
        Ok(sink)
    }

    /// By address family; tells whether any device had to be mended.
    fn see_to_devices(&mut self, at_start: bool) -> io::Result<(Indices, bool)> {
        let (mut indices, mut mended) = (Indices::new(), false);
        for setup in &self.devices {
            let applied = setup.apply(&mut self.netlink, at_start)?;
            indices.insert(setup.network.addr().is_ipv4(), applied.index);
            mended |= applied.mended;
        }
        Ok((indices, mended))
    }

    /// Everything the devices know of other nodes.
    fn standing(&mut self, indices: &Indices) -> io::Result<BTreeSet<Entry>> {
        let ours = |interface: &u32| indices.values().any(|index| index == interface);
        let mut standing = BTreeSet::new();
        for ipv4 in indices.keys() {
            let routes = self.netlink.main_routes(*ipv4)?.into_iter();
            let routes = routes.filter(|route| route.usual).map(|route| route.entry);
            standing.extend(routes.filter(
                |entry| matches!(entry, Entry::Route { interface, gateway: Some(_), .. } if ours(interface)),
            ));
            standing.extend(self.netlink.neighbours(*ipv4)?);
        }
        standing.extend(self.netlink.endpoints()?);
        standing.retain(|entry| match entry {
            Entry::Neighbour { interface, .. } | Entry::Endpoint { interface, .. } => {
                ours(interface)
            }
            _ => true,
        });
        Ok(standing)
    }
}

impl TableSink for KernelVxlan {
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
        self.peers = Some(peers.to_vec());
        self.restore().map(drop)
    }

    fn restore(&mut self) -> io::Result<bool> {
        let (indices, mended) = self.see_to_devices(false)?;
        let Some(peers) = self.peers.take() else {
            return Ok(mended);
        };
        let standing = self.standing(&indices);
        let (wanted, doubles) = lines(&peers, &indices);
        self.peers = Some(peers);
        let lost = self.keeper.keep(&mut self.netlink, wanted, &standing?)?;
        match doubles {
            Some(error) => Err(error),
            None => Ok(mended | lost),
        }
    }
}

/// What the kernel shall know of these peers. An Ethernet address leads to one node only; of two nodes that claim
/// the same, the first has it.
fn lines(peers: &[Peer], indices: &Indices) -> (BTreeSet<Entry>, Option<io::Error>) {
    let (mut wanted, mut doubles) = (BTreeSet::new(), None);
    let mut holders: BTreeMap<(u32, Mac), IpAddr> = BTreeMap::new();
    for peer in peers {
        let (PeerForm::Vxlan(mac), Some(&interface)) =
            (peer.form, indices.get(&peer.subnet.addr().is_ipv4()))
        else {
            continue;
        };
        let holder = *holders.entry((interface, mac)).or_insert(peer.endpoint);
        if holder == peer.endpoint {
            wanted.extend(three(peer, interface, mac));
        } else {
            let text = format!(
                "{} is not reached: its node {} claims the VtepMAC {mac} of {holder}",
                peer.subnet, peer.endpoint
            );
            doubles.get_or_insert_with(|| io::Error::other(text));
        }
    }
    (wanted, doubles)
}

fn three(peer: &Peer, interface: u32, mac: Mac) -> [Entry; 3] {
    let first = peer.subnet.network();
    [
        Entry::Neighbour {
            interface,
            address: first,
            mac,
        },
        Entry::Endpoint {
            interface,
            mac,
            address: peer.endpoint,
        },
        Entry::Route {
            to: peer.subnet,
            gateway: Some(first),
            interface,
            onlink: true,
        },
    ]
}
