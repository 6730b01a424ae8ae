//! A network that changes its backend, node by node, with the leases it has.

use crate::cluster::Cluster;

const UDP: &str = r#"{"Type":"udp"}"#;
const HOST_GW: &str = r#"{"Type":"host-gw"}"#;
const VXLAN: &str = r#"{"Type":"vxlan"}"#;
const KERNEL: &str = r#"{"Type":"vxlan","Datapath":"kernel"}"#;
const DIRECT: &str = r#"{"Type":"vxlan","Directrouting":true}"#;
const DIRECT_KERNEL: &str = r#"{"Type":"vxlan","Directrouting":true,"Datapath":"kernel"}"#;

const WHOLE: &str = "10.5.0.0/16 dev flannel0";
const PLAIN: &str = "10.5.12.0/24 via 192.168.77.2 dev eth0";
const ONLINK: &str = "10.5.12.0/24 via 10.5.12.0 dev flannel.1 onlink";

/// Goes through backends in turn; after each change the routes are those of the new one alone.
fn goes_through(steps: &[(&str, &[&str])]) {
    let mut cluster = Cluster::new(2, steps[0].0);
    for (backend, routes) in steps {
        cluster.configure(backend);
        cluster.start_all();
        cluster.await_routes(0, routes);
        cluster.talk();
        let (kernel, traces) = (backend.contains("kernel"), cluster.traces(0));
        assert_eq!(traces.contains("flannel.1"), kernel, "{backend}: {traces}");
        assert_eq!(
            traces.contains("flannel0"),
            routes.contains(&WHOLE),
            "{backend}: {traces}"
        );
        let neighbours = traces.contains("PERMANENT") || traces.contains("self permanent");
        assert_eq!(neighbours, routes.contains(&ONLINK), "{backend}: {traces}");
    }
}

#[test]
fn from_udp_to_host_gw_to_vxlan_to_vxlan_with_direct_routing() {
    goes_through(&[
        (UDP, &[WHOLE]),
        (HOST_GW, &[PLAIN]),
        (VXLAN, &[WHOLE]),
        (DIRECT, &[WHOLE, PLAIN]),
        (UDP, &[WHOLE]),
    ]);
}

#[test]
fn from_kernel_vxlan_to_everything_else_and_back() {
    goes_through(&[
        (KERNEL, &[ONLINK]),
        (VXLAN, &[WHOLE]),
        (KERNEL, &[ONLINK]),
        (UDP, &[WHOLE]),
        (DIRECT_KERNEL, &[PLAIN]),
        (KERNEL, &[ONLINK]),
        (HOST_GW, &[PLAIN]),
        (KERNEL, &[ONLINK]),
    ]);
}

/// The subnet file still names the network of before.
#[test]
fn what_a_network_that_was_given_up_left_behind_goes_with_it() {
    for (before, after) in [(HOST_GW, VXLAN), (KERNEL, VXLAN), (KERNEL, HOST_GW)] {
        let mut cluster = Cluster::up(2, before);
        cluster.site.nodes[0].daemon().stop().unwrap();
        cluster.configure_also(after, r#","Network":"10.7.0.0/16""#);
        cluster.start_only(0);
        cluster.await_routes(0, &[]);
        let traces = cluster.traces(0);
        assert!(!traces.contains("flannel.1"), "{before}, {after}: {traces}");
    }
}

#[test]
fn routes_and_devices_of_others_survive_a_change_of_backend() {
    let mut cluster = Cluster::new(2, KERNEL);
    let foreign = "link add mine type vxlan id 77 dev eth0 dstport 9999\nlink set mine up\n\
                   route add 10.6.1.0/24 via 192.168.77.9\nroute add 10.5.200.0/24 via 192.168.77.9 proto static\n\
                   route add 10.5.201.0/24 via 192.168.77.9 metric 7";
    cluster.node(0).host.ip(foreign).unwrap();
    let others = |cluster: &Cluster| {
        let mut lines = cluster.node(0).lines("ip route show");
        lines.extend(cluster.node(0).lines("ip -oneline link show mine"));
        lines.retain(|line| line.contains("77.9") || line.contains("mine"));
        lines
    };
    let before = others(&cluster);
    assert_eq!(before.len(), 4);
    for backend in [KERNEL, HOST_GW, DIRECT, UDP] {
        cluster.configure(backend);
        cluster.start_all();
        cluster.ping(0, 1);
        assert_eq!(others(&cluster), before, "{backend}");
    }
}
