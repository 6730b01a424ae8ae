//! One test per rule: what joins and what stays apart.

use super::*;

#[test]
fn packets_in_step_become_one() {
    every_kind(|v6, is_tcp| {
        let train = in_step(v6, is_tcp, 1000, 40);
        let writes = merged(ALL, &train);
        let (header, packets, bytes) = &writes[0];
        assert_eq!((writes.len(), *packets), (1, 40));
        assert_eq!(
            *bytes,
            Sketch {
                payload: bytes[train[0].header_len()..].to_vec(),
                check: Check::Unfinished,
                ..train[0].clone()
            }
            .build()
        );
        assert_eq!(
            header.to_bytes(),
            train[0].virtio(1000, train[0].header_len() as u16)
        );
    });
}

#[test]
fn a_shorter_packet_joins_and_closes() {
    every_kind(|v6, is_tcp| {
        let mut train = Sketch::new(v6, is_tcp, 2500).segments(1000);
        let mut rest = Sketch {
            seq: 3500,
            id: 4,
            ..Sketch::new(v6, is_tcp, 2000)
        }
        .segments(1000);
        train.append(&mut rest);
        assert_eq!(counts(ALL, &train), [3, 2]);
    });
}

#[test]
fn a_longer_packet_starts_anew() {
    every_kind(|v6, is_tcp| {
        let mut train = in_step(v6, is_tcp, 100, 2);
        train.push(Sketch {
            seq: 1200,
            id: 3,
            ..Sketch::new(v6, is_tcp, 101)
        });
        assert_eq!(counts(ALL, &train), [2, 1]);
    });
}

#[test]
fn push_is_kept_and_closes() {
    let mut train = in_step(false, true, 100, 4);
    train[1].flags |= flag::PSH;
    let writes = merged(ALL, &train);
    assert_eq!(
        writes
            .iter()
            .map(|(_, packets, _)| *packets)
            .collect::<Vec<_>>(),
        [2, 2]
    );
    assert_eq!(
        writes
            .iter()
            .map(|(.., bytes)| bytes[33] & flag::PSH)
            .collect::<Vec<_>>(),
        [flag::PSH, 0]
    );
}

#[test]
fn any_difference_keeps_packets_apart() {
    let changes: [fn(&mut Sketch); 20] = [
        |p| p.seq += 1,
        |p| p.ack += 1,
        |p| p.window += 1,
        |p| p.urgent += 1,
        |p| p.reserved ^= 1,
        |p| p.flags |= flag::FIN,
        |p| p.flags |= flag::CWR,
        |p| p.flags |= flag::ECE,
        |p| p.flags |= 0x20,
        |p| p.flags = 0,
        |p| p.options[4] ^= 1,
        |p| p.options.truncate(8),
        |p| p.tos ^= 4,
        |p| p.tos ^= 1,
        |p| p.ttl -= 1,
        |p| p.df = false,
        |p| p.id += 1,
        |p| p.ip_options = vec![1; 4],
        |p| p.check = Check::Wrong,
        |p| p.payload.clear(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut train = Sketch {
            options: vec![1; 12],
            ..Sketch::new(false, true, 300)
        }
        .segments(100);
        change(&mut train[1]);
        comes_back(ALL, &train);
        assert_eq!(counts(ALL, &train).len(), 3, "change {number}");
    }
}

#[test]
fn a_different_flow_label_keeps_packets_apart() {
    let mut train = in_step(true, true, 100, 2);
    train[1].flow_label = 1;
    assert_eq!(counts(ALL, &train), [1, 1]);
}

#[test]
fn different_ports_and_addresses_are_different_flows() {
    every_kind(|v6, is_tcp| {
        for change in [
            (|p| p.ports.0 += 1) as fn(&mut Sketch),
            |p| p.ports.1 += 1,
            |p| p.hosts.0 += 1,
            |p| p.hosts.1 += 1,
        ] {
            let mut train = in_step(v6, is_tcp, 100, 4);
            change(&mut train[2]);
            train[3].id -= 1;
            train[3].seq -= 100;
            assert_eq!(counts(ALL, &train), [3, 1]);
        }
    });
}

#[test]
fn the_same_flow_from_two_peers_stays_apart() {
    let train = in_step(false, true, 100, 4);
    let mut batch = Batch::new(ALL);
    for (packet, peer) in train.iter().zip([1, 2, 1, 2]) {
        batch.push(&packet.build(), peer).unwrap();
    }
    assert_eq!(batch.finish().len(), 4);
}

#[test]
fn a_packet_that_cannot_join_does_not_overtake() {
    let mut train = in_step(false, false, 100, 3);
    train[2].check = Check::Zero;
    let writes = merged(ALL, &train);
    assert_eq!(
        writes
            .iter()
            .map(|(_, packets, _)| *packets)
            .collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(writes[1].2, train[2].build());
}

#[test]
fn a_fragment_does_not_overtake_its_flow() {
    let train = in_step(false, false, 100, 2);
    let mut batch = Batch::new(ALL);
    let mut fragment = train[1].build();
    fragment[6] = 0x20;
    let checksum = crate::wire::checksum::patched(
        u16::from_be_bytes([fragment[10], fragment[11]]),
        0x4000,
        0x2000,
    );
    fragment[10..12].copy_from_slice(&checksum.to_be_bytes());
    batch.push(&train[0].build(), 1).unwrap();
    batch.push(&fragment, 1).unwrap();
    let order: Vec<_> = batch
        .finish()
        .into_iter()
        .map(|(.., bytes)| bytes)
        .collect();
    assert_eq!(order, [train[0].build(), fragment]);
}

#[test]
fn udp_stops_at_the_segments_the_kernel_takes() {
    let train = in_step(false, false, 10, 300);
    assert_eq!(counts(ALL, &train), [128, 128, 44]);
    assert_eq!(
        counts(
            MergeConfig {
                max_udp_segments: 64,
                ..ALL
            },
            &train
        ),
        [64, 64, 64, 64, 44]
    );
    assert_eq!(
        counts(
            MergeConfig {
                max_udp_segments: 1,
                ..ALL
            },
            &train
        )
        .len(),
        300
    );
}

#[test]
fn a_super_packet_never_exceeds_what_a_header_can_say() {
    every_kind(|v6, is_tcp| {
        let header = Sketch::new(v6, is_tcp, 0).header_len();
        let train = in_step(v6, is_tcp, 1400, 100);
        let most = (65_535 - header) / 1400;
        assert_eq!(counts(ALL, &train), [most, most, 100 - 2 * most]);
    });
}

/// Unfragmentable packets in step but for their identification.
fn constant_ids(is_tcp: bool) -> Vec<Sketch> {
    let mut train = in_step(false, is_tcp, 100, 5);
    for packet in &mut train {
        packet.id = 0;
    }
    train
}

#[test]
fn constant_identifications_join_only_if_wanted_and_unfragmentable() {
    let wanted = MergeConfig {
        constant_ids: true,
        ..ALL
    };
    let mut train = constant_ids(false);
    assert_eq!(counts(ALL, &train), [1; 5]);
    assert_eq!(counts(wanted, &train), [5]);
    train[3].id = 3;
    assert_eq!(counts(wanted, &train), [3, 1, 1]);
    for packet in &mut train {
        (packet.id, packet.df) = (0, false);
    }
    assert_eq!(counts(wanted, &train), [1; 5]);
}

#[test]
fn constant_identifications_of_tcp_never_join() {
    let wanted = MergeConfig {
        constant_ids: true,
        ..ALL
    };
    assert_eq!(counts(wanted, &constant_ids(true)), [1; 5]);
}

#[test]
fn a_seventeenth_flow_writes_the_others() {
    let one = |port: u16, step: u16| Sketch {
        ports: (port, 9),
        id: step,
        ..Sketch::new(false, false, 10)
    };
    let train: Vec<_> = (0..3)
        .flat_map(|step| (0..17).map(move |port| one(port, step)))
        .collect();
    assert_eq!(counts(ALL, &train).iter().sum::<usize>(), 51);
    comes_back(ALL, &train);
    let sixteen: Vec<_> = (0..3)
        .flat_map(|step| (0..16).map(move |port| one(port, step)))
        .collect();
    assert_eq!(counts(ALL, &sixteen), [3; 16]);
}

#[test]
fn what_is_not_tcp_or_udp_goes_as_it_came() {
    let mut packet = Sketch::new(false, true, 100).build();
    packet[9] = 132;
    let mut batch = Batch::new(ALL);
    batch.push(&packet, 1).unwrap();
    assert_eq!(batch.finish(), [(VirtioNetHdr::default(), 1, packet)]);
}
