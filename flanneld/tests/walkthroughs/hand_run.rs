//! The hand-run script: a subnet file written before the first start, a supervisor that stops the daemon with
//! SIGQUIT, and a backend that is changed twice, each time with nothing but the daemon started again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::ExitStatusExt;

use benches::etcd::{Clients, Etcd};

use crate::site::{Node, Site};
use crate::talk::{reaches, tcp};
use crate::underlay::Underlay;

const SIGQUIT: i32 = 3;
const CONTAINERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(172, 7, 21, 2),
    Ipv4Addr::new(172, 7, 22, 2),
    Ipv4Addr::new(172, 7, 23, 2),
];

fn set_backend(etcd: &Etcd, backend: &str) {
    let config = format!(r#"{{"Network":"172.7.0.0/16","Backend":{backend}}}"#);
    etcd.put("/coreos.com/network/config", &config).unwrap();
}

/// The guide's script.
fn start(node: &mut Node, etcd: &Etcd) {
    let files = etcd.client_files().unwrap();
    let [authority, certificate, key] = files.map(|file| file.display().to_string());
    node.start(&[
        &format!("--public-ip={}", node.address),
        &format!("--etcd-endpoints={}", etcd.endpoints()),
        &format!("--etcd-keyfile={key}"),
        &format!("--etcd-certfile={certificate}"),
        &format!("--etcd-cafile={authority}"),
        "--iface=eth0",
        "--subnet-file=./subnet.env",
        "--healthz-port=2401",
    ]);
    node.await_ready();
}

/// What `supervisorctl restart` does where `stopsignal=QUIT`.
fn restart(node: &mut Node, etcd: &Etcd) {
    let status = node.daemon().stop_with(SIGQUIT).unwrap();
    assert!(status.success() && !status.core_dumped(), "{status}");
    start(node, etcd);
}

/// The first line of the answer to a probe, and the text.
fn probe(node: &Node, path: &str) -> (String, String) {
    let mut stream = node
        .host
        .enter(|| TcpStream::connect("127.0.0.1:2401"))
        .unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Containers on two nodes talk both ways; tells whether datagrams of VXLAN were seen on the way.
fn talk(site: &Site, near: usize, far: usize) -> bool {
    let (one, two) = (&site.nodes[near], &site.nodes[far]);
    reaches(&one.container, CONTAINERS[far]);
    reaches(&two.host, CONTAINERS[near]);
    let mut underlay = Underlay::of(two);
    let seen = tcp(&one.container, (&two.container, CONTAINERS[far]));
    assert_eq!(seen, CONTAINERS[near], "the client keeps its address");
    tcp(&two.container, (&one.container, CONTAINERS[near]));
    !underlay.arrived_at(8472).is_empty()
}

#[test]
fn a_preset_subnet_is_honoured_and_backends_follow_each_other() {
    let mut site = Site::new("10.4.7.254", &["10.4.7.21", "10.4.7.22"]);
    let plan = Etcd::plan().clients(Clients::Certified);
    let plan = plan.member(&site.switch, site.gateway.into());
    let etcd = plan.unwrap().launch().unwrap();
    set_backend(&etcd, r#"{"Type":"host-gw"}"#);
    for (node, subnet) in site
        .nodes
        .iter_mut()
        .zip(["172.7.21.1/24", "172.7.22.1/24"])
    {
        node.preset("172.7.0.0/16", subnet);
        start(node, &etcd);
        node.run_container(2);
    }
    host_gw_routes(&site, &etcd);
    set_backend(&etcd, r#"{"Type":"vxlan"}"#);
    site.nodes.iter_mut().for_each(|node| restart(node, &etcd));
    vxlan_encapsulates(&site);
    join_third_node(&mut site, &etcd);
    set_backend(&etcd, r#"{"Type":"vxlan","Directrouting":true}"#);
    site.nodes.iter_mut().for_each(|node| restart(node, &etcd));
    neighbours_are_routed_to_and_others_encapsulated(&site);
}

fn host_gw_routes(site: &Site, etcd: &Etcd) {
    let node = &site.nodes[0];
    assert_eq!(
        node.subnet_env(),
        "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
    );
    assert_eq!(
        etcd.get("/coreos.com/network/subnets/172.7.21.0-24")
            .unwrap(),
        r#"{"PublicIP":"10.4.7.21","PublicIPv6":null,"BackendType":"host-gw"}"#
    );
    assert_eq!(
        probe(node, "/healthz"),
        (
            "HTTP/1.1 200 OK".to_owned(),
            "flanneld is running".to_owned()
        )
    );
    assert!(!talk(site, 0, 1), "host-gw encapsulates nothing");
    node.prints("ip route show", "172.7.22.0/24 via 10.4.7.22 dev eth0");
    assert!(
        !node
            .lines("ip -oneline link show")
            .join("\n")
            .contains("flannel")
    );
}

/// The containers run on with the large packets they were started with.
fn vxlan_encapsulates(site: &Site) {
    assert!(talk(site, 0, 1), "vxlan encapsulates");
    let routes = site.nodes[0].lines("ip route show").join("\n");
    assert!(!routes.contains("via 10.4.7.22"), "{routes}");
    assert_eq!(
        site.nodes[0].subnet_value("FLANNEL_SUBNET"),
        "172.7.21.1/24"
    );
    assert_eq!(site.nodes[0].subnet_value("FLANNEL_MTU"), "1450");
}

fn join_third_node(site: &mut Site, etcd: &Etcd) {
    site.add_node_behind_router("10.4.8.254", "10.4.8.23");
    let third = site.nodes.last_mut().unwrap();
    third.preset("172.7.0.0/16", "172.7.23.1/24");
    start(third, etcd);
    third.run_container(2);
    assert!(
        talk(site, 0, 2),
        "a node on another link is reached through the tunnel"
    );
}

fn neighbours_are_routed_to_and_others_encapsulated(site: &Site) {
    assert!(
        talk(site, 0, 2),
        "a node on another link is reached through the tunnel"
    );
    assert!(talk(site, 2, 1), "and reaches those on the first");
    assert!(!talk(site, 0, 1), "neighbours are reached directly");
    site.nodes[0].prints("ip route show", "172.7.22.0/24 via 10.4.7.22 dev eth0");
    let routes = site.nodes[0].lines("ip route show").join("\n");
    assert!(!routes.contains("172.7.23.0/24 via 10.4"), "{routes}");
}
