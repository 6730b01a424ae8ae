//! Hands control's peers to the engine as its table.

use control::network::Backend;
use control::sink::{Peer, PeerForm, TableSink};
use engine::{Engine, Mac, Route, SubnetTable};
use ipnet::IpNet;
use std::sync::Arc;

/// The engine as a sink for peers.
#[derive(Debug)]
pub(crate) struct EngineSink {
    pub(crate) engine: Arc<Engine>,
    /// Every peer uses the backend we do, its port included.
    pub(crate) backend: Backend,
    /// Largest packet of the interface to them.
    pub(crate) underlay_mtu: u32,
    /// Our own subnets.
    pub(crate) own: Vec<IpNet>,
}

impl TableSink for EngineSink {
    fn replace(&mut self, peers: &[Peer]) {
        let routes = peers.iter().map(|peer| self.route(peer));
        self.engine
            .publish(SubnetTable::build(self.own.clone(), routes));
    }
}

impl EngineSink {
    fn route(&self, peer: &Peer) -> Route {
        let form = match peer.form {
            PeerForm::Udp => engine::PeerForm::Udp,
            PeerForm::Vxlan(mac) => engine::PeerForm::Vxlan { mac: Mac(mac.0) },
        };
        let mtu = self.backend.path_mtu(self.underlay_mtu, peer.endpoint);
        Route {
            subnet: peer.subnet,
            peer: engine::Peer {
                address: peer.endpoint,
                port: self.backend.port(),
                form,
                mtu: u16::try_from(mtu).ok(),
            },
        }
    }
}
