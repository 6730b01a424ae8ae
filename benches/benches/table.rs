//! A next-hop lookup costs the same whatever the number of leases.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use engine::{Peer, PeerForm, Route, SubnetTable};
use ipnet::{IpNet, Ipv4Net};

/// A /28 per node leaves room for the largest table in 10.0.0.0/8.
const SUBNET_BITS: u8 = 28;
const LOOKUPS: u32 = 1024;

fn subnet(number: u32) -> Ipv4Net {
    let base = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + (number << (32 - SUBNET_BITS));
    Ipv4Net::new_assert(base.into(), SUBNET_BITS)
}

fn table(leases: u32) -> SubnetTable {
    let route = |number: u32| {
        let address = IpAddr::V4((u32::from(Ipv4Addr::new(172, 16, 0, 0)) + number).into());
        let peer = Peer {
            address,
            port: 8285,
            form: PeerForm::Udp,
            mtu: None,
        };
        Route {
            subnet: IpNet::V4(subnet(number)),
            peer,
        }
    };
    SubnetTable::build(Vec::new(), (0..leases).map(route))
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    for leases in [2, 1_000, 10_000, 100_000] {
        let table = table(leases);
        // Multiplying by an odd number visits the leases in no order a cache could guess.
        let leased = |number: u32| {
            subnet(number.wrapping_mul(2_654_435_761) % leases)
                .addr()
                .into()
        };
        let addresses: Vec<IpAddr> = (0..LOOKUPS).map(leased).collect();
        group.bench_function(BenchmarkId::from_parameter(leases), |bencher| {
            bencher.iter(|| {
                addresses
                    .iter()
                    .filter(|address| table.route(**black_box(address)).is_some())
                    .count()
            });
        });
    }
}

criterion_group!(benches, lookup);
criterion_main!(benches);
