//! What a ring that has begun can be made to do by whoever writes its entries.

use super::*;
use std::os::unix::net::UnixDatagram;

/// A ring for one end of a socket pair, and both ends.
fn begun() -> (Ring, UnixDatagram, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    let ring = Ring::new(&[near.as_raw_fd()]).unwrap();
    ring.begin().unwrap();
    (ring, near, far)
}

/// What becomes of one entry.
fn submitted(ring: &mut Ring, entry: Entry) -> i32 {
    // SAFETY: the entries of these tests name static memory, or none.
    unsafe { ring.push(entry) }.unwrap();
    ring.submit(1).unwrap();
    ring.next().unwrap().result
}

#[test]
fn a_ring_that_has_begun_does_its_own_work() {
    let (mut ring, _near, far) = begun();
    far.send(b"packet").unwrap();
    ring.poll(0).unwrap();
    ring.submit(1).unwrap();
    let seen = ring.next().unwrap();
    assert!(seen.token == 0 && seen.result >= 0, "{seen:?}");
}

#[test]
fn lent_frames_are_filled_from_the_file_at_its_place() {
    let (near, far) = UnixDatagram::pair().unwrap();
    let ring = Ring::new(&[near.as_raw_fd()]).unwrap();
    if !ring.knows_multishot_reads() {
        return;
    }
    let layout = ringbuf::FrameLayout {
        count: 2,
        headroom: 0,
        capacity: 64,
    };
    let mut arena = ringbuf::Arena::new(layout).unwrap();
    let mut pool = arena.frames();
    let mut reads = LentReads::new(ring, BufRing::new(2, 0).unwrap(), 0).unwrap();
    reads.ring.begin().unwrap();
    reads.lend(std::iter::from_fn(|| pool.take()));
    far.send(b"packet").unwrap();
    reads.arm().unwrap();
    reads.ring.submit(1).unwrap();
    let completion = reads.ring.next().unwrap();
    let arrival = reads.take(completion);
    assert!(
        matches!(&arrival, Arrival::Packet(frame) if frame.bytes() == b"packet"),
        "{arrival:?}"
    );
}

#[test]
fn a_ring_that_has_begun_refuses_every_operation_but_its_own() {
    let (mut ring, near, _far) = begun();
    let (own, fd) = (types::Fixed(0), types::Fd(near.as_raw_fd()));
    let here = types::Fd(libc::AT_FDCWD);
    let path = c"/etc/passwd".as_ptr();
    let entries = [
        opcode::OpenAt::new(here, path).build(),
        opcode::UnlinkAt::new(here, path).build(),
        opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
        opcode::Connect::new(own, std::ptr::null(), 0).build(),
        opcode::Send::new(own, c"x".as_ptr().cast(), 1).build(),
        opcode::Close::new(fd).build(),
        opcode::Nop::new().build(),
        opcode::PollAdd::new(fd, libc::POLLIN as u32).build(),
        opcode::Writev::new(fd, std::ptr::null(), 0).build(),
        opcode::Writev::new(own, std::ptr::null(), 0)
            .build()
            .flags(Flags::ASYNC),
    ];
    for entry in entries {
        let told = format!("{entry:?}");
        assert_eq!(submitted(&mut ring, entry), -libc::EACCES, "{told}");
    }
}

#[test]
fn a_ring_that_has_begun_is_given_no_other_files_and_no_other_limits() {
    let (ring, _near, far) = begun();
    let submitter = ring.ring.submitter();
    let refused = |outcome: io::Result<()>, code| {
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(code));
    };
    refused(
        submitter
            .register_files_update(0, &[far.as_raw_fd()])
            .map(drop),
        libc::EACCES,
    );
    refused(submitter.register_files(&[far.as_raw_fd()]), libc::EACCES);
    refused(submitter.register_enable_rings(), libc::EACCES);
    refused(
        submitter.register_restrictions(&mut [Restriction::sqe_op(opcode::OpenAt::CODE)]),
        libc::EACCES,
    );
}

#[test]
fn a_ring_that_ends_lets_go_of_its_files_at_once() {
    let (mut ring, near, far) = begun();
    ring.poll(0).unwrap();
    ring.submit(0).unwrap();
    drop(near);
    drop(ring);
    let error = far.send(b"packet").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
}
