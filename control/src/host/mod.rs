//! The host around the tunnel: its interfaces, addresses, routes and switches.

pub mod external_interface;
pub mod firewall;
pub mod keeper;
pub mod leftovers;
pub mod links;
pub mod monitor;
mod netlink;
mod sysctl;
pub mod traces;
pub mod vxlan;

#[cfg(fuzzing)]
pub(crate) use netlink::hostile;
pub use netlink::{
    Address, Change, Entry, FoundRoute, Interface, Netlink, RouteFound, VxlanDevice,
};
