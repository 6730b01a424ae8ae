//! Two machines on a switch with an etcd, this project installed on both.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use benches::Namespace;
use benches::etcd::Etcd;
use benches::scratch::Scratch;

use crate::machine::Machine;
use crate::unit::Unit;
use crate::{image, machine::wait_for};

pub(crate) const SUBNETS: &str = "/coreos.com/network/subnets";
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 254);
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// Everything; dropped in this order.
pub(crate) struct Site {
    pub(crate) machines: [Machine; 2],
    pub(crate) etcd: Etcd,
    /// Where the machines' way out leads, which knows nothing of containers.
    pub(crate) switch: Namespace,
    pub(crate) image: PathBuf,
    scratch: Scratch,
}

impl Site {
    /// With a network of this backend, no daemon yet.
    pub(crate) fn new(backend: &str) -> Self {
        Self::with_config(&format!(
            r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#
        ))
    }

    /// The same with IPv6 beside IPv4, also between the machines.
    pub(crate) fn with_both_families(backend: &str) -> Self {
        let site = Self::with_config(&format!(
            r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{backend}}}"#
        ));
        for (number, machine) in site.machines.iter().enumerate() {
            let address = format!("addr add fd77::{}/64 dev eth0 nodad", number + 1);
            machine.host.ip(&address).unwrap();
        }
        site
    }

    fn with_config(config: &str) -> Self {
        let (switch, scratch) = (Namespace::new().unwrap(), Scratch::new().unwrap());
        let bridge =
            format!("link add br0 type bridge\naddr add {OUTSIDE}/24 dev br0\nlink set br0 up");
        switch.ip(&bridge).unwrap();
        let machines = [1, 2].map(|number| install(&switch, number, scratch.path()));
        let plan = Etcd::plan().member(&switch, OUTSIDE.into());
        let etcd = plan.unwrap().launch().unwrap();
        etcd.put("/coreos.com/network/config", config).unwrap();
        for machine in &machines {
            let settings = format!(
                "FLANNELD_ETCD_ENDPOINTS={}\nFLANNELD_IFACE=eth0\nFLANNELD_IP_MASQ=true\n",
                etcd.endpoints()
            );
            machine.write("/etc/default/flanneld", &settings);
        }
        Self {
            machines,
            etcd,
            switch,
            image: image::build(scratch.path()),
            scratch,
        }
    }

    /// The address of a machine.
    pub(crate) fn address(number: usize) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 77, 1 + number as u8)
    }

    /// The address of the way out.
    pub(crate) fn outside(&self) -> Ipv4Addr {
        OUTSIDE
    }

    /// A directory for files of tests.
    pub(crate) fn directory(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }

    /// Starts the daemon on both machines, as its unit says.
    pub(crate) fn start_flanneld(&mut self) {
        self.machines
            .iter_mut()
            .for_each(|machine| flanneld().start(machine));
    }

    /// A lease as stock flannel would write it for a third node.
    pub(crate) fn put_stock_lease(&self, kind: &str) {
        let lease = format!(r#"{{"PublicIP":"192.168.77.3","PublicIPv6":null{kind}}}"#);
        self.etcd
            .put(&format!("{SUBNETS}/10.5.200.0-24"), &lease)
            .unwrap();
    }

    /// Waits until the network has this many nodes.
    pub(crate) fn await_leases(&self, count: usize) {
        wait_for("every lease", || {
            self.etcd.keys(SUBNETS).unwrap().len() == count
        });
    }
}

/// The daemon's unit.
pub(crate) fn flanneld() -> Unit {
    Unit::shipped("flanneld", "flanneld.service")
}

/// A machine on the switch with what a package would install.
fn install(switch: &Namespace, number: usize, scratch: &Path) -> Machine {
    let (host, out) = (Namespace::new().unwrap(), switch.path());
    let links = format!(
        "link add eth0 type veth peer name port{number} netns {out}\n\
         addr add {}/24 dev eth0\nlink set eth0 up\nroute add default via {OUTSIDE}",
        Site::address(number - 1)
    );
    host.ip(&links).unwrap();
    let port = format!("link set port{number} master br0\nlink set port{number} up");
    switch.ip(&port).unwrap();
    let machine = Machine::boot(host, scratch.join(format!("machine{number}")));
    let daemon = Path::new(env!("CARGO_BIN_EXE_flanneld"));
    let deploy = Path::new(DEPLOY);
    machine.install(daemon, "/usr/bin/flanneld");
    machine.install(&daemon.with_file_name("flannel"), "/usr/lib/cni/flannel");
    machine.install(
        &deploy.join("mk-docker-opts.sh"),
        "/usr/libexec/flannel/mk-docker-opts.sh",
    );
    machine.install(
        &deploy.join("10-flannel.conflist"),
        "/etc/cni/net.d/10-flannel.conflist",
    );
    machine
}
