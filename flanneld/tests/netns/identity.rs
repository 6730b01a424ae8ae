//! Packets arrive as they were sent, however the daemon moves them.
//!
//! Plain routing through the same nodes is the measure: what it delivers, the daemon delivers.

use benches::paths::End;
use benches::{Lab, Path, Profile, Side};

use super::carry::{Crossing, assert_same};
use super::corpus::{
    one_flow_with_changing_marks, single_packets, tcp_super_packets, udp_super_packets,
};
use super::setup::{up, versions};

/// Packets join on the way only where every header field can be restored.
const EXACT: &str = "+exact-ip-ids";

/// Containers with the same addresses as `path`'s, joined by nothing but routes.
fn routed_like(path: &Path) -> Lab {
    let lab = Lab::new(Profile::Offload).unwrap();
    for side in Side::BOTH {
        let (far, via) = (path.subnet(side.other()), side.other().underlay());
        lab.address(side, path.subnet(side), path.mtu()).unwrap();
        lab.node(side)
            .ip(&format!("route add {far} via {via}"))
            .unwrap();
    }
    lab
}

fn packets_arrive_as_sent(name: &str, profile: Profile) {
    let path = up(&format!("{name}{EXACT}"), profile);
    let subnets = Side::BOTH.map(|side| path.subnet(side));
    let mtu = path.mtu() as usize;
    let plain = routed_like(&path);
    for from in Side::BOTH {
        let what = format!("{name}, {profile}, from {from:?}");
        let mut routed = Crossing::open(&plain, subnets, from);
        let mut crossing = Crossing::open(path.lab(), subnets, from);

        let packets = single_packets(&crossing, mtu);
        let sent: Vec<_> = packets.iter().map(|packet| packet.bytes.clone()).collect();
        assert_same(&routed.carry(&packets), &sent, "plain routing");
        assert_same(&crossing.carry(&packets), &sent, &what);

        let mut packets = tcp_super_packets(&crossing, mtu);
        if keeps_datagram_boundaries(&path, profile, from) {
            packets.extend(udp_super_packets(&crossing, mtu));
        }
        let segments = routed.carry(&packets);
        assert!(
            segments.len() > packets.len() * 10,
            "super-packets were cut to {}",
            segments.len()
        );
        assert_same(&crossing.carry(&packets), &segments, &what);
    }
}

/// Kernel VXLAN over an unsegmented underlay sends joined datagrams without saying where one ends.
fn keeps_datagram_boundaries(path: &Path, profile: Profile, from: Side) -> bool {
    path.spec().ends[from as usize] != End::KernelVxlan || profile != Profile::Offload
}

versions! { packets_arrive_as_sent:
    udp_form_carries_every_packet_unchanged("udp", Profile::Offload);
    udp_form_over_mtu_size_packets_carries_every_packet_unchanged("udp", Profile::Wire);
    udp_form_with_gro_carries_every_packet_unchanged("udp", Profile::WireGro);
    vxlan_form_carries_every_packet_unchanged("vxlan", Profile::Offload);
    vxlan_form_over_mtu_size_packets_carries_every_packet_unchanged("vxlan", Profile::Wire);
    vxlan_form_with_gro_carries_every_packet_unchanged("vxlan", Profile::WireGro);
    kernel_vxlan_and_the_daemon_carry_every_packet_unchanged("mixed-vxlan", Profile::Offload);
    kernel_vxlan_and_the_daemon_over_mtu_size_packets_carry_every_packet_unchanged("mixed-vxlan", Profile::Wire);
    io_uring_multishot_carries_every_packet_unchanged("udp+io=uring-multishot", Profile::Offload);
    io_uring_oneshot_carries_every_packet_unchanged("udp+io=uring-oneshot", Profile::Offload);
    epoll_carries_every_packet_unchanged("udp+io=epoll", Profile::Offload);
    a_single_plain_queue_carries_every_packet_unchanged("udp+io=single-queue", Profile::Offload);
    vxlan_over_io_uring_multishot_carries_every_packet_unchanged("vxlan+io=uring-multishot", Profile::Wire);
    vxlan_over_io_uring_oneshot_carries_every_packet_unchanged("vxlan+io=uring-oneshot", Profile::Wire);
    vxlan_over_epoll_carries_every_packet_unchanged("vxlan+io=epoll", Profile::Wire);
    vxlan_over_a_single_plain_queue_carries_every_packet_unchanged("vxlan+io=single-queue", Profile::Wire);
    without_tso_every_packet_is_carried_unchanged("udp+no-offload=tso", Profile::Offload);
    without_uso_every_packet_is_carried_unchanged("udp+no-offload=uso", Profile::Offload);
    without_gso_every_packet_is_carried_unchanged("udp+no-offload=gso", Profile::Offload);
    without_gro_every_packet_is_carried_unchanged("udp+no-offload=gro", Profile::Offload);
    without_merging_every_packet_is_carried_unchanged("udp+no-offload=merge", Profile::Offload);
    without_any_offload_every_packet_is_carried_unchanged("vxlan+no-offload=all", Profile::Offload);
    two_workers_carry_every_packet_unchanged("udp+workers=2", Profile::Offload);
    datagrams_taken_off_the_device_carry_every_packet_unchanged("udp+shortcut", Profile::Wire);
    datagrams_taken_off_a_device_that_joined_them_carry_every_packet_unchanged("vxlan+shortcut", Profile::Offload);
    source_ports_by_flow_carry_every_packet_unchanged("udp+udp-flow-ports", Profile::Offload);
}

/// Marks of congestion change from packet to packet; a flow is still a flow.
fn a_flow_keeps_its_order(name: &str) {
    let path = up(name, Profile::Offload);
    let subnets = Side::BOTH.map(|side| path.subnet(side));
    let mut crossing = Crossing::open(path.lab(), subnets, Side::A);
    let packets = one_flow_with_changing_marks(&crossing);
    let sent: Vec<_> = packets.iter().map(|packet| packet.bytes.clone()).collect();
    assert_same(&crossing.carry(&packets), &sent, name);
}

versions! { a_flow_keeps_its_order:
    a_flow_with_changing_congestion_marks_keeps_its_order_in_udp_form("udp");
    a_flow_with_changing_congestion_marks_keeps_its_order_in_vxlan_form("vxlan");
}
