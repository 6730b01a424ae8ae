//! Which records may become routes. Anyone who can write to the registry can write anything; nothing written
//! there may take over this host's own subnet, its underlay, or destinations outside the overlay network.

use crate::lease::{LeaseAttrs, VtepData};
use crate::mac::Mac;
use crate::network::{Backend, NetworkConfig};
use crate::pool::Pool;
use crate::sink::{Peer, PeerForm};
use crate::subnet_key::{SubnetKey, overlap};
use ipnet::IpNet;
use std::net::IpAddr;

/// What records are held against.
#[derive(Clone, Debug)]
pub struct Screen {
    /// The network config in force.
    pub network: NetworkConfig,
    /// Our own lease.
    pub own: SubnetKey,
    /// Our own addresses, advertised and local, with the networks they are in.
    pub underlay: Vec<IpNet>,
    /// Our own Ethernet address where the form has one.
    pub mac: Option<Mac>,
    /// Whether packets of one family can travel between addresses of the other, to nodes that have none of their own.
    pub across: bool,
}

/// Why a record becomes no route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The subnet is not part of the overlay network.
    #[error("{0} lies outside the overlay network")]
    OutsideNetwork(IpNet),
    /// The subnet takes in some of ours.
    #[error("{0} overlaps our own subnet")]
    OwnSubnet(IpNet),
    /// The subnet takes in addresses of the underlay.
    #[error("{0} overlaps the underlay network")]
    Underlay(IpNet),
    /// The record names no address of the subnet's family, or one that no node can have.
    #[error("its public address cannot be a node's")]
    NoEndpoint,
    /// The record's address is ours.
    #[error("its public address {0} is our own")]
    OwnAddress(IpAddr),
    /// Packets to the node would enter the tunnel again.
    #[error("its public address {0} lies inside the overlay network")]
    EndpointInOverlay(IpAddr),
    /// The node uses another backend.
    #[error("its backend is {0:?}")]
    OtherBackend(String),
    /// The node speaks the form that this one does not.
    #[error("its form is {1}, and this node speaks {0} alone; with --forms={0},{1} it speaks both")]
    OtherForm(&'static str, &'static str),
    /// The backend data is missing or makes no sense.
    #[error("its backend data cannot be used: {0}")]
    BackendData(String),
    /// Another node holds some of it.
    #[error("{0} overlaps {1} of another node")]
    Overlap(IpNet, IpNet),
}

impl Screen {
    /// The routes a record gives: one per address family in use.
    pub(crate) fn peers(
        &self,
        key: SubnetKey,
        attrs: &LeaseAttrs,
    ) -> impl Iterator<Item = Result<Peer, Refusal>> {
        key.subnets().map(|subnet| self.peer(subnet, attrs))
    }

    /// Whether a subnet has the length the config asks for.
    pub(crate) fn usual_len(&self, subnet: IpNet) -> bool {
        let of_family = |pool: &&Pool| pool.network.max_prefix_len() == subnet.max_prefix_len();
        self.network
            .pools()
            .find(of_family)
            .is_some_and(|pool| pool.subnet_len == subnet.prefix_len())
    }

    fn peer(&self, subnet: IpNet, attrs: &LeaseAttrs) -> Result<Peer, Refusal> {
        self.check_subnet(subnet)?;
        let endpoint = self.endpoint(subnet, attrs).ok_or(Refusal::NoEndpoint)?;
        self.check_endpoint(endpoint)?;
        Ok(Peer {
            subnet,
            endpoint,
            form: self.form(subnet, attrs)?,
        })
    }

    /// Where a node is reached: at its address of the subnet's family, or, with no pair of those, at the other.
    fn endpoint(&self, subnet: IpNet, attrs: &LeaseAttrs) -> Option<IpAddr> {
        let (ipv4, ipv6) = (
            attrs.public_ip.map(IpAddr::V4).filter(usable),
            attrs.public_ipv6.map(IpAddr::V6).filter(usable),
        );
        let (own, other) = match subnet {
            IpNet::V4(_) => (ipv4, ipv6),
            IpNet::V6(_) => (ipv6, ipv4),
        };
        let reachable = |endpoint: &IpAddr| {
            let mut held = self.underlay.iter().map(|net| net.addr());
            held.any(|held| held.is_ipv4() == endpoint.is_ipv4())
        };
        match self.across {
            true => [own, other].into_iter().flatten().find(reachable),
            false => own,
        }
    }

    fn check_subnet(&self, subnet: IpNet) -> Result<(), Refusal> {
        if !self
            .network
            .networks()
            .any(|network| network.contains(&subnet))
        {
            return Err(Refusal::OutsideNetwork(subnet));
        }
        if self.own.overlaps(subnet) {
            return Err(Refusal::OwnSubnet(subnet));
        }
        if self.underlay.iter().any(|net| overlap(net.trunc(), subnet)) {
            return Err(Refusal::Underlay(subnet));
        }
        Ok(())
    }

    fn check_endpoint(&self, endpoint: IpAddr) -> Result<(), Refusal> {
        if self.underlay.iter().any(|net| net.addr() == endpoint) {
            return Err(Refusal::OwnAddress(endpoint));
        }
        if self
            .network
            .networks()
            .any(|network| network.contains(&endpoint))
            && !self.on_link(endpoint)
        {
            return Err(Refusal::EndpointInOverlay(endpoint));
        }
        Ok(())
    }

    /// A neighbour on the underlay is reached directly even where the overlay network was chosen around it.
    fn on_link(&self, endpoint: IpAddr) -> bool {
        self.underlay.iter().any(|net| net.contains(&endpoint))
    }

    fn form(&self, subnet: IpNet, attrs: &LeaseAttrs) -> Result<PeerForm, Refusal> {
        match (&self.network.backend, &*attrs.backend_type) {
            (Backend::Alloc, _) | (Backend::HostGw, "host-gw") => Ok(PeerForm::Plain),
            (_, "" | "udp") if self.network.udp().is_some() => Ok(PeerForm::Udp),
            (_, "vxlan") => match self.network.vxlan() {
                Some(options) => self.vtep(options.vni, subnet, attrs),
                None => Err(self.other(attrs)),
            },
            _ => Err(self.other(attrs)),
        }
    }

    fn other(&self, attrs: &LeaseAttrs) -> Refusal {
        match (&self.network.backend, &*attrs.backend_type) {
            (Backend::Udp(_), "vxlan") => Refusal::OtherForm("udp", "vxlan"),
            (Backend::Vxlan(_), "" | "udp") => Refusal::OtherForm("vxlan", "udp"),
            _ => Refusal::OtherBackend(attrs.backend_type.clone()),
        }
    }

    fn vtep(&self, vni: u32, subnet: IpNet, attrs: &LeaseAttrs) -> Result<PeerForm, Refusal> {
        let data = match subnet {
            IpNet::V4(_) => &attrs.backend_data,
            IpNet::V6(_) => &attrs.backend_v6_data,
        };
        let unusable = |why: &str| Refusal::BackendData(why.to_owned());
        let data = data.as_ref().ok_or_else(|| unusable("missing"))?;
        let data = VtepData::parse(data).map_err(|error| unusable(&error.0))?;
        if data.vni.is_some_and(|theirs| theirs != vni) {
            return Err(unusable("another VNI"));
        }
        if self.mac == Some(data.mac) {
            return Err(unusable("our own VtepMAC"));
        }
        Ok(PeerForm::Vxlan(data.mac))
    }
}

/// Whether an address can be some node's.
fn usable(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_loopback() || address.is_multicast() || address.is_unspecified() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::FormName;

    const MAC: &str = "02:00:00:00:00:09";

    fn screen(backend: &str) -> Screen {
        let config = format!(
            r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{{"Type":"{backend}"}}}}"#
        );
        Screen {
            network: NetworkConfig::parse(&config).unwrap(),
            own: "10.5.1.0-24".parse().unwrap(),
            underlay: vec![
                "192.168.77.1/24".parse().unwrap(),
                "10.5.200.1/24".parse().unwrap(),
            ],
            mac: Some(MAC.parse().unwrap()),
            across: false,
        }
    }

    fn verdicts(backend: &str, key: &str, value: &str) -> Vec<String> {
        let attrs = LeaseAttrs::parse(value).unwrap();
        let told = |peer: Result<Peer, Refusal>| match peer {
            Ok(peer) => format!("{} via {}", peer.subnet, peer.endpoint),
            Err(refusal) => refusal.to_string(),
        };
        screen(backend)
            .peers(key.parse().unwrap(), &attrs)
            .map(told)
            .collect()
    }

    fn udp(key: &str, address: &str) -> String {
        verdicts(
            "udp",
            key,
            &format!(r#"{{"PublicIP":"{address}","PublicIPv6":null}}"#),
        )
        .remove(0)
    }

    fn vxlan(data: &str) -> String {
        verdicts(
            "vxlan",
            "10.5.2.0-24",
            &format!(r#"{{"PublicIP":"192.168.77.2","BackendType":"vxlan","BackendData":{data}}}"#),
        )
        .remove(0)
    }

    #[test]
    fn an_honest_record_becomes_a_route() {
        assert_eq!(
            udp("10.5.2.0-24", "192.168.77.2"),
            "10.5.2.0/24 via 192.168.77.2"
        );
        assert_eq!(
            vxlan(r#"{"VtepMAC":"02:00:00:00:00:02"}"#),
            "10.5.2.0/24 via 192.168.77.2"
        );
    }

    #[test]
    fn each_family_goes_its_own_way() {
        let value = r#"{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2"}"#;
        let routes = verdicts("udp", "10.5.2.0-24&fd05:0:0:2::-64", value);
        assert_eq!(
            routes,
            [
                "10.5.2.0/24 via 192.168.77.2",
                "fd05:0:0:2::/64 via fd77::2"
            ]
        );
    }

    #[test]
    fn a_family_without_addresses_of_its_own_travels_between_those_of_the_other() {
        let told = |screen: &Screen, value: &str| {
            let attrs = LeaseAttrs::parse(value).unwrap();
            let key = "10.5.2.0-24&fd05:0:0:2::-64".parse().unwrap();
            let peers = screen.peers(key, &attrs);
            peers
                .map(|peer| {
                    peer.map_or_else(|why| why.to_string(), |peer| peer.endpoint.to_string())
                })
                .collect::<Vec<_>>()
        };
        let only_v4 = r#"{"PublicIP":"192.168.77.2","PublicIPv6":null}"#;
        let both = r#"{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2"}"#;
        let only_v6 = r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd77::2"}"#;
        let strict = screen("udp");
        assert_eq!(
            told(&strict, only_v4)[1],
            "its public address cannot be a node's"
        );
        // This node has IPv4 addresses alone.
        let mut across = Screen {
            across: true,
            ..strict
        };
        assert_eq!(told(&across, only_v4), ["192.168.77.2"; 2]);
        assert_eq!(told(&across, both), ["192.168.77.2"; 2]);
        assert_eq!(
            told(&across, only_v6)[0],
            "its public address cannot be a node's"
        );
        across.underlay.push("fd77::1/64".parse().unwrap());
        assert_eq!(told(&across, both), ["192.168.77.2", "fd77::2"]);
        assert_eq!(told(&across, only_v4), ["192.168.77.2"; 2]);
        assert_eq!(told(&across, only_v6), ["fd77::2"; 2]);
    }

    #[test]
    fn a_record_cannot_route_what_is_not_the_overlays() {
        for key in [
            "10.6.0.0-24",
            "0.0.0.0-1",
            "10.4.0.0-15",
            "127.0.0.0-8",
            "224.0.0.0-4",
            "192.168.77.0-24",
        ] {
            assert!(
                udp(key, "192.168.77.2").ends_with("lies outside the overlay network"),
                "{key}"
            );
        }
    }

    #[test]
    fn a_record_cannot_take_our_subnet_or_the_underlay() {
        for key in ["10.5.1.0-24", "10.5.1.128-25", "10.5.0.0-16", "10.5.0.0-22"] {
            assert!(
                udp(key, "192.168.77.2").ends_with("overlaps our own subnet"),
                "{key}"
            );
        }
        assert!(udp("10.5.200.0-24", "192.168.77.2").ends_with("overlaps the underlay network"));
    }

    #[test]
    fn a_record_cannot_send_packets_to_us_or_nowhere_or_round_in_circles() {
        for address in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(
                udp("10.5.2.0-24", address),
                "its public address cannot be a node's",
                "{address}"
            );
        }
        assert!(udp("10.5.2.0-24", "192.168.77.1").ends_with("is our own"));
        assert!(udp("10.5.2.0-24", "10.5.3.1").ends_with("lies inside the overlay network"));
        assert_eq!(
            udp("10.5.2.0-24", "10.5.200.2"),
            "10.5.2.0/24 via 10.5.200.2"
        );
    }

    #[test]
    fn a_record_of_another_backend_is_no_route() {
        let value = r#"{"PublicIP":"192.168.77.2","BackendType":"host-gw"}"#;
        assert_eq!(
            verdicts("udp", "10.5.2.0-24", value),
            [r#"its backend is "host-gw""#]
        );
        assert_eq!(
            verdicts("vxlan", "10.5.2.0-24", value),
            [r#"its backend is "host-gw""#]
        );
    }

    #[test]
    fn a_node_with_both_forms_has_peers_of_both() {
        let vxlan = |address: &str, data: &str| {
            let value =
                format!(r#"{{"PublicIP":"{address}","BackendType":"vxlan","BackendData":{data}}}"#);
            LeaseAttrs::parse(&value).unwrap()
        };
        let udp = LeaseAttrs::parse(r#"{"PublicIP":"192.168.77.2"}"#).unwrap();
        let good = vxlan("192.168.77.3", r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}"#);
        let other = vxlan("192.168.77.3", r#"{"VNI":7,"VtepMAC":"02:00:00:00:00:02"}"#);
        let mac = PeerForm::Vxlan("02:00:00:00:00:02".parse().unwrap());
        for forms in [
            [FormName::Udp, FormName::Vxlan],
            [FormName::Vxlan, FormName::Udp],
        ] {
            let mut screen = screen("udp");
            screen.network = screen.network.speaking(&forms).unwrap();
            let form = |attrs: &LeaseAttrs| {
                let mut peers = screen.peers("10.5.2.0-24".parse().unwrap(), attrs);
                peers.next().unwrap().map(|peer| peer.form)
            };
            assert_eq!(form(&udp), Ok(PeerForm::Udp));
            assert_eq!(form(&good), Ok(mac));
            let why = form(&other).unwrap_err().to_string();
            assert!(why.contains("another VNI"), "{why}");
        }
    }

    #[test]
    fn a_node_with_one_form_says_how_to_speak_the_other() {
        let value = r#"{"PublicIP":"192.168.77.2","BackendType":"vxlan"}"#;
        let told = verdicts("udp", "10.5.2.0-24", value).remove(0);
        assert!(told.ends_with("--forms=udp,vxlan it speaks both"), "{told}");
        let told = verdicts("vxlan", "10.5.2.0-24", r#"{"PublicIP":"192.168.77.2"}"#).remove(0);
        assert!(told.ends_with("--forms=vxlan,udp it speaks both"), "{told}");
    }

    #[test]
    fn vxlan_needs_the_same_network_and_an_address_of_the_peers_own() {
        assert!(vxlan(r#"{"VNI":2,"VtepMAC":"02:00:00:00:00:02"}"#).ends_with("another VNI"));
        assert!(vxlan(&format!(r#"{{"VtepMAC":"{MAC}"}}"#)).ends_with("our own VtepMAC"));
        assert!(vxlan("null").ends_with("missing"));
    }
}
