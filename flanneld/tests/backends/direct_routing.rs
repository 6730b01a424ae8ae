//! Neighbours by plain routes, the others through the tunnel, and back again as the underlay changes.

use crate::cluster::Cluster;
use crate::probe::Probe;
use crate::talk::{reaches, tcp};

/// Three nodes, the third of which is behind the switch as a router.
fn three_nodes(backend: &str) -> Cluster {
    let mut cluster = Cluster::new(3, backend);
    let site = &cluster.site;
    site.switch.set("net/ipv4/ip_forward", "1").unwrap();
    site.switch
        .ip("link set port2 nomaster\naddr add 192.168.88.254/24 dev port2")
        .unwrap();
    let third = &site.nodes[2].host;
    third.ip("addr flush dev eth0\naddr add 192.168.88.3/24 dev eth0\nroute add default via 192.168.88.254").unwrap();
    cluster.start_all();
    cluster.talk();
    cluster
}

/// What is on a node for neighbours only, and what is for peers behind the tunnel.
fn flips_with_the_underlay(backend: &str, tunnel: [&str; 2]) {
    let cluster = three_nodes(backend);
    let [whole, single] = tunnel;
    let neighbour = "10.5.12.0/24 via 192.168.77.2 dev eth0".to_owned();
    let through = |subnet: &str| single.replace("SUBNET", subnet);
    let routes = |some: &[String]| {
        let mut all: Vec<String> = [whole.to_owned()]
            .into_iter()
            .chain(some.iter().cloned())
            .collect();
        all.retain(|route| !route.is_empty());
        all
    };
    let expect = |some: &[String]| {
        let wanted = routes(some);
        cluster.await_routes(0, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    };
    expect(&[neighbour.clone(), through("10.5.13")]);
    let direct = cluster.traces(0);
    // The neighbour moves behind the router, as far as this node can tell, and back.
    let probe = Probe::start(&cluster);
    for _ in 0..2 {
        cluster
            .node(0)
            .host
            .ip("route add 192.168.77.2/32 via 192.168.77.254")
            .unwrap();
        expect(&[through("10.5.12"), through("10.5.13")]);
        cluster.ping(0, 2);
        cluster
            .node(0)
            .host
            .ip("route del 192.168.77.2/32")
            .unwrap();
        expect(&[neighbour.clone(), through("10.5.13")]);
    }
    assert_eq!(probe.lost(), 0, "a peer that moves is never out of reach");
    cluster.talk();
    assert_eq!(cluster.traces(0), direct, "nothing is left behind");
    // A link down takes the plain route along; stock never puts it back.
    cluster
        .node(0)
        .host
        .ip("link set eth0 down\nlink set eth0 up\nroute add default via 192.168.77.254")
        .unwrap();
    expect(&[neighbour, through("10.5.13")]);
    cluster.talk();
}

#[test]
fn direct_routing_beside_the_udp_form_follows_the_underlay() {
    flips_with_the_underlay(
        r#"{"Type":"udp","Directrouting":true}"#,
        ["10.5.0.0/16 dev flannel0", ""],
    );
}

#[test]
fn direct_routing_beside_the_vxlan_form_follows_the_underlay() {
    flips_with_the_underlay(
        r#"{"Type":"vxlan","directRouting":true}"#,
        ["10.5.0.0/16 dev flannel0", ""],
    );
}

#[test]
fn direct_routing_beside_a_kernel_device_follows_the_underlay() {
    flips_with_the_underlay(
        r#"{"Type":"vxlan","DirectRouting":true,"Datapath":"kernel"}"#,
        ["", "SUBNET.0/24 via SUBNET.0 dev flannel.1 onlink"],
    );
}

#[test]
fn peers_need_not_agree_on_direct_routing() {
    let mut cluster = Cluster::new(2, r#"{"Type":"vxlan","DirectRouting":true}"#);
    cluster.start(0, &[]);
    cluster.configure(r#"{"Type":"vxlan"}"#);
    cluster.start(1, &[]);
    cluster.await_routes(
        0,
        &[
            "10.5.0.0/16 dev flannel0",
            "10.5.12.0/24 via 192.168.77.2 dev eth0",
        ],
    );
    cluster.talk();
    assert_eq!(cluster.routes(1), ["10.5.0.0/16 dev flannel0"]);
    reaches(&cluster.node(0).host, cluster.container(1));
    tcp(
        &cluster.node(1).host,
        (&cluster.node(0).container, cluster.container(0)),
    );
}
