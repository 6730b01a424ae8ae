//! What kernels and sandboxes may lack, by name.

use super::{Kernel, Refusal};

/// Where the flags are in what io_uring_setup and TUNSETIFF are given.
const IO_URING_FLAGS_AT: u64 = 8;
const TUN_FLAGS_AT: u64 = 16;
const TUN_SETIFF: u32 = libc::TUNSETIFF as u32;
const TUN_SETOFFLOAD: u32 = libc::TUNSETOFFLOAD as u32;
/// Offloads of a TUN device, for both address families.
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO: u32 = 0x02 | 0x04;
const TUN_F_USO: u32 = 0x20 | 0x40;
/// The arguments that say what is asked for: of ioctl, io_uring_register, and calls about options.
const REQUEST: u8 = 1;
const OPTION: u8 = 2;

/// An offload of a TUN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunOffload {
    /// Unfinished checksums, and with them all others.
    Checksum,
    /// TCP super-packets.
    Tso,
    /// UDP super-packets.
    Uso,
}

impl Kernel {
    /// Opening an io_uring fails with this error.
    pub fn without_io_uring(self, errno: i32) -> Self {
        self.refusing(Refusal::of(libc::SYS_io_uring_setup, errno))
    }

    /// An io_uring with any of these flags is not known.
    pub fn without_io_uring_flags(self, flags: u32) -> Self {
        let setup = Refusal::of(libc::SYS_io_uring_setup, libc::EINVAL);
        self.refusing(setup.where_memory_has(1, IO_URING_FLAGS_AT, flags))
    }

    /// Something that can be registered with an io_uring is refused.
    pub fn without_io_uring_register(self, operation: u32, errno: i32) -> Self {
        let register = Refusal::of(libc::SYS_io_uring_register, errno);
        self.refusing(register.with(REQUEST, operation))
    }

    /// TUN devices have one queue only, as before Linux 3.8.
    pub fn without_multi_queue(self) -> Self {
        self.without_tun_flag(libc::IFF_MULTI_QUEUE)
    }

    /// TUN devices have no virtio headers, as before Linux 2.6.27.
    pub fn without_virtio_header(self) -> Self {
        self.without_tun_flag(libc::IFF_VNET_HDR)
    }

    fn without_tun_flag(self, flag: i32) -> Self {
        let open = Refusal::of(libc::SYS_ioctl, libc::EINVAL).with(REQUEST, TUN_SETIFF);
        self.refusing(open.where_memory_has(2, TUN_FLAGS_AT, flag as u32))
    }

    /// A TUN device takes no more than so many queues.
    pub fn with_queues_at_most(self, queues: u32) -> Self {
        let open = Refusal::of(libc::SYS_ioctl, libc::E2BIG).with(REQUEST, TUN_SETIFF);
        self.refusing(open.after(queues))
    }

    /// A TUN device refuses sets of offloads with this one in it.
    pub fn without_tun_offload(self, offload: TunOffload) -> Self {
        let bits = match offload {
            TunOffload::Checksum => TUN_F_CSUM,
            TunOffload::Tso => TUN_F_TSO,
            TunOffload::Uso => TUN_F_USO,
        };
        let set = Refusal::of(libc::SYS_ioctl, libc::EINVAL).with(REQUEST, TUN_SETOFFLOAD);
        self.refusing(set.with_any_of(2, bits))
    }

    /// The TUN takes nothing that was joined from more than two packets, whatever it has promised.
    pub fn without_joined_packets(self) -> Self {
        // A virtio header, the first packet, and the payloads of the others: four parts or more.
        let write = Refusal::of(libc::SYS_writev, libc::EINVAL);
        self.refusing(write.with_any_of(2, !3))
    }

    /// No send carries many datagrams, as before Linux 4.18.
    pub fn without_udp_segment(self) -> Self {
        self.without_udp_option(libc::UDP_SEGMENT)
    }

    /// No receive gives many datagrams, as before Linux 5.0.
    pub fn without_udp_gro(self) -> Self {
        self.without_udp_option(libc::UDP_GRO)
    }

    fn without_udp_option(self, option: i32) -> Self {
        let on = |call| {
            let level = Refusal::of(call, libc::ENOPROTOOPT).with(REQUEST, libc::SOL_UDP as u32);
            level.with(OPTION, option as u32)
        };
        let kernel = self.refusing(on(libc::SYS_setsockopt));
        kernel.refusing(on(libc::SYS_getsockopt))
    }

    /// A send carries 64 datagrams at most, as before Linux 6.9: it is found out by trying.
    pub fn without_128_segments(self) -> Self {
        let set = Refusal::of(libc::SYS_setsockopt, libc::EINVAL);
        let set = set.with(REQUEST, libc::SOL_UDP as u32);
        self.refusing(set.with(OPTION, libc::UDP_SEGMENT as u32))
    }

    /// No IPv6 at all.
    pub fn without_ipv6(self) -> Self {
        let family = libc::AF_INET6 as u32;
        self.refusing(Refusal::of(libc::SYS_socket, libc::EAFNOSUPPORT).with(0, family))
    }

    /// What container engines leave a privileged daemon: two capabilities, no io_uring, and no call that is for those
    /// who rule the machine.
    pub fn in_a_container(self) -> Self {
        let refused = [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_userfaultfd,
            libc::SYS_process_vm_readv,
            libc::SYS_sethostname,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_swapon,
            libc::SYS_reboot,
            libc::SYS_open_by_handle_at,
            libc::SYS_quotactl,
            libc::SYS_kexec_load,
        ];
        let refuse = |kernel: Self, call| kernel.refusing(Refusal::of(call, libc::EPERM));
        let kernel = refused.into_iter().fold(self, refuse);
        kernel.with_capabilities(&["net_admin", "net_raw"])
    }
}
