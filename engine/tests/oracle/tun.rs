//! A TUN device of the test.

use super::raw;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// How long to wait for a packet that has to come.
const PATIENCE_MS: i32 = 5000;
const VIRTIO_LEN: usize = 10;

/// An open TUN device; gone when dropped.
#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    buffer: Vec<u8>,
    virtio: bool,
}

impl Tun {
    /// A device without any offload: the kernel has to cut everything before it is read here.
    pub(crate) fn plain(name: &str) -> Self {
        Self::open(name, false)
    }

    /// A device with virtio headers that takes and gives super-packets.
    pub(crate) fn with_offloads(name: &str) -> Self {
        let tun = Self::open(name, true);
        raw::tun_accept_super_packets(&tun.file).expect("TSO and USO (Linux 6.2)");
        tun
    }

    fn open(name: &str, virtio: bool) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .expect("/dev/net/tun");
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | if virtio { libc::IFF_VNET_HDR } else { 0 };
        raw::tun_set_interface(&file, name, flags).expect("a TUN device");
        Self {
            file,
            buffer: vec![0; 70_000],
            virtio,
        }
    }

    /// Writes a packet, and the header in front of it where the device has one.
    pub(crate) fn write(
        &mut self,
        header: &[u8; VIRTIO_LEN],
        packet: &[u8],
    ) -> std::io::Result<()> {
        self.buffer.clear();
        if self.virtio {
            self.buffer.extend(header);
        }
        self.buffer.extend(packet);
        let written = self.file.write(&self.buffer);
        self.buffer.resize(70_000, 0);
        written.map(|_| ())
    }

    /// The next packet from side 1 to side 2, if one is there: virtio header (zeroes where there is
    /// none) and bytes.
    pub(crate) fn try_read(&mut self) -> Option<([u8; VIRTIO_LEN], &[u8])> {
        let skip = if self.virtio { VIRTIO_LEN } else { 0 };
        loop {
            let len = match self.file.read(&mut self.buffer) {
                Ok(len) => len,
                Err(err) if err.kind() == ErrorKind::WouldBlock => return None,
                Err(err) => panic!("reading a TUN: {err}"),
            };
            if is_ours(&self.buffer[skip..len]) {
                let mut header = [0; VIRTIO_LEN];
                header[..skip].copy_from_slice(&self.buffer[..skip]);
                return Some((header, &self.buffer[skip..len]));
            }
        }
    }

    /// The next packet; waits for it, and gives up if it does not come.
    pub(crate) fn read(&mut self) -> Option<([u8; VIRTIO_LEN], Vec<u8>)> {
        loop {
            if let Some((header, packet)) = self.try_read() {
                return Some((header, packet.to_vec()));
            }
            if !raw::readable(&self.file, PATIENCE_MS) {
                return None;
            }
        }
    }
}

/// Not one of the kernel's own announcements.
fn is_ours(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => packet[12..15] == [10, 91, 1],
        _ => packet[8..12] == [0xfd, 0xaa, 0, 1],
    }
}
