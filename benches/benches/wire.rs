//! Wall time of what happens to every packet between the system calls.

mod packets;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::Mac;
use engine::wire::checksum::Sum;
use engine::wire::icmp::{ANSWER_LEN_MAX, Answer, build};
use engine::wire::ip::{IpInfo, flow_hash, lower_ttl};
use engine::wire::merge::{MergeConfig, Merger};
use engine::wire::split::Splitter;
use engine::wire::{Family, Piece, vxlan};
use packets::{MTU, tcp, tcp_super_packet, udp};

/// Segments of a super-packet and packets of a receive batch.
const BATCH: usize = 64;

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for size in [20, 64, 256, MTU, 65_535] {
        let bytes = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| Sum::of(black_box(&bytes)).fold())
        });
    }
}

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    let mut packet = tcp(1, MTU);
    let info = parsed(&packet);
    group.bench_function("parse", |bencher| {
        bencher.iter(|| IpInfo::parse(black_box(&packet)).is_ok())
    });
    group.bench_function("flow_hash", |bencher| {
        bencher.iter(|| flow_hash(black_box(&packet), &info))
    });
    group.bench_function("lower_ttl", |bencher| {
        bencher.iter(|| lower_ttl(black_box(&mut packet), &info))
    });
}

fn split(criterion: &mut Criterion) {
    let (packet, virtio) = tcp_super_packet();
    let mut out = [0; 128];
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function("tcp_64k", |bencher| {
        bencher.iter(|| {
            let Ok(splitter) = Splitter::new(black_box(&packet), &virtio) else {
                return 0;
            };
            let header = &mut out[..splitter.header_len()];
            (0..splitter.segments())
                .map(|index| splitter.write_header(&packet, index, header).end)
                .sum()
        });
    });
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(BATCH as u64));
    // 44 full segments are what fits into one super-packet.
    let bulk: Vec<_> = (0..44).map(|number| tcp(number, MTU)).collect();
    let small: Vec<_> = (0..BATCH).map(|number| udp(number, 64)).collect();
    for (name, batch) in [("tcp_mtu", bulk), ("udp_64", small)] {
        let config = MergeConfig {
            vnet_header: true,
            tcp: true,
            udp: true,
            max_udp_segments: 64,
            mtu: MTU,
            constant_ids: true,
        };
        let mut merger = Merger::new(config);
        group.throughput(Throughput::Elements(batch.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || batch.clone(),
                |frames| merge_all(&mut merger, frames),
                BatchSize::SmallInput,
            );
        });
    }
}

/// What the receiving side does with one batch; says how many writes it becomes.
fn merge_all(merger: &mut Merger, frames: &mut [Vec<u8>]) -> usize {
    merger.clear();
    for slot in 0..frames.len() {
        let packet = Piece {
            slot: slot as u16,
            start: 0,
            len: frames[slot].len() as u32,
        };
        let info = parsed(&frames[slot]);
        merger.push(frames, packet, &info, 1).unwrap_or_default();
    }
    merger.flush(frames);
    merger.writes().len()
}

fn tunnel(criterion: &mut Criterion) {
    let (near, far) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let mut header = [0; vxlan::OVERHEAD];
    vxlan::write_header(&mut header, 1, far, near, Family::V4);
    let datagram = [header.to_vec(), udp(1, 64)].concat();
    let mut group = criterion.benchmark_group("vxlan");
    group.bench_function("write_header", |bencher| {
        bencher.iter(|| vxlan::write_header(black_box(&mut header), 1, far, near, Family::V4));
    });
    group.bench_function("open", |bencher| {
        bencher.iter(|| vxlan::open(black_box(&datagram), 1, far).is_ok())
    });
}

fn answer(criterion: &mut Criterion) {
    let packet = udp(1, 512);
    let info = parsed(&packet);
    let from = [10, 5, 1, 0].into();
    let mut out = [0; ANSWER_LEN_MAX];
    criterion.bench_function("icmp/net_unreachable", |bencher| {
        bencher.iter(|| {
            build(
                &mut out,
                from,
                black_box(&packet),
                &info,
                Answer::NetUnreachable,
            )
        });
    });
}

fn parsed(packet: &[u8]) -> IpInfo {
    IpInfo::parse(packet)
        .unwrap_or_else(|error| panic!("a packet made for this cannot be parsed: {error:?}"))
}

criterion_group!(benches, checksum, header, split, merge, tunnel, answer);
criterion_main!(benches);
