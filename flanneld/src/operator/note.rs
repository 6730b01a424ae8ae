//! What a daemon at work writes on the board.

use super::board::{ContactNote, LeaseNote, Note};
use crate::confine;
use crate::daemon::Daemon;
use console::answers::{Form, Network, Node, Others};
use control::network::{Backend, Datapath};

impl Daemon<'_> {
    /// The daemon as it is now.
    pub(crate) fn note(&self) -> Note {
        let tally = self.sync.tally();
        Note {
            node: Node {
                interface: self.plan.external.name.clone(),
                public: self.plan.external.public_addresses().collect(),
                mtu: self.plan.external.mtu,
            },
            network: self.network_note(),
            lease: self.lease_note(),
            contact: ContactNote {
                answers: self.contact.answers(),
                since: self.contact.since(),
                why: self.contact.why().map(str::to_owned),
            },
            others: Others {
                records: tally.records,
                unreadable: tally.bad,
                refused: tally.refused,
                routes: tally.routes,
                udp: tally.udp,
                vxlan: tally.vxlan,
            },
            workers_answer: self.vitals.workers_answer(),
            problems: self.problems(),
        }
    }

    fn network_note(&self) -> Network {
        let network = &self.plan.network;
        let carried_by = match &network.backend {
            Backend::Alloc => "nobody",
            Backend::HostGw => "kernel",
            Backend::Vxlan(_) if self.desk.settings.datapath(network) == Datapath::Kernel => {
                "kernel"
            }
            Backend::Udp(_) | Backend::Vxlan(_) => "engine",
        };
        Network {
            ranges: network.networks().collect(),
            backend: network.backend.name().to_owned(),
            carried_by: carried_by.to_owned(),
            direct_routing: network.direct_routing(),
            mtu: self.plan.mtu,
            port: network.backend.port(),
            beside: network.beside.as_ref().map(|beside| Form {
                name: beside.name().to_owned(),
                port: beside.port(),
            }),
        }
    }

    fn lease_note(&self) -> LeaseNote {
        let (hold, lease) = (&self.hold, self.hold.lease());
        LeaseNote {
            subnets: lease.key.subnets().collect(),
            standing: hold.standing(),
            reserved: lease.reserved,
            since: self.since,
            renewed: hold.written_at(),
            renewal: hold.due().filter(|_| !lease.reserved),
            end: hold.end(),
            record: lease.attrs.to_json(),
        }
    }

    /// What only the control loop knows to be wrong.
    fn problems(&self) -> Vec<String> {
        let lease = self.hold.lease().key;
        let subnet_file = self.desk.settings.subnet_file.display();
        let known = [
            (
                self.underlay.is_missing(),
                format!(
                    "the interface to other nodes, {}, is gone; it is waited for",
                    self.plan.external.name
                ),
            ),
            (
                self.renewal.is_failing(),
                "no packets are carried: the data plane cannot be started anew; the log says why"
                    .to_owned(),
            ),
            (
                !self.vitals.workers_answer(),
                "a worker of the packet engine does not answer; restart the daemon".to_owned(),
            ),
            (
                self.hold.is_taken(),
                format!(
                    "another node holds the subnet {lease}: remove its record to get the subnet back, or restart this daemon to get another"
                ),
            ),
            (
                !self.subnet_told,
                format!(
                    "{subnet_file} could not be written, so containers do not know their subnet"
                ),
            ),
            (
                !self.sync.has_table(),
                "the other nodes are not known yet".to_owned(),
            ),
            confine::problem(),
        ];
        let wrong = known.into_iter().filter(|(wrong, _)| *wrong);
        wrong.map(|(_, words)| words).collect()
    }
}
