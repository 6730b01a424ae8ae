//! Wall time of what happens to every packet between the system calls.

mod cases;

use criterion::{Criterion, criterion_group, criterion_main};

fn wall_time(criterion: &mut Criterion) {
    for case in cases::all() {
        let mut run = (case.prepare)();
        criterion.bench_function(&case.name, |bencher| bencher.iter(&mut run));
    }
}

criterion_group!(benches, wall_time);
criterion_main!(benches);
