//! System calls: a filter in the kernel says which of them a thread may still make.

use crate::denied;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
};
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;
use std::ops::RangeInclusive;

/// What a call that is not allowed meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The error "operation not permitted"; it is counted, and the thread goes on.
    Error,
    /// The end of the whole process.
    End,
}

/// A system call, and what its arguments must be.
#[derive(Clone, Debug)]
pub struct Call {
    number: i64,
    /// Any of these, each a list of conditions that hold together.
    rules: Vec<Vec<SeccompCondition>>,
}

/// In place of a number while a tracer lets a call fail: the kernel makes none.
const SKIPPED: i64 = u32::MAX as i64;

/// Numbers from here on are the same calls in another guise on some processors.
const OTHER_GUISE: u32 = 0x4000_0000;

/// What no daemon of ours needs, nor the programs it runs: looking into other processes, other namespaces, mounting,
/// loading code into the kernel, its clock, its keys, and what was needed to break out of walls like these before.
pub const DANGEROUS: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

impl Call {
    /// The call, whatever its arguments.
    pub fn any(number: libc::c_long) -> Self {
        Self {
            number,
            rules: vec![Vec::new()],
        }
    }

    /// Only where the argument at this place, a number of 32 bits, lies in one of the ranges.
    pub fn within(self, argument: u8, ranges: &[RangeInclusive<u32>]) -> io::Result<Self> {
        let mut rules = Vec::new();
        for rule in &self.rules {
            for range in ranges {
                let mut rule = rule.clone();
                match range.start() == range.end() {
                    true => rule.push(condition(argument, SeccompCmpOp::Eq, *range.start())?),
                    false => {
                        rule.push(condition(argument, SeccompCmpOp::Ge, *range.start())?);
                        rule.push(condition(argument, SeccompCmpOp::Le, *range.end())?);
                    }
                }
                rules.push(rule);
            }
        }
        Ok(Self { rules, ..self })
    }

    /// Only where the argument at this place has none of these bits.
    pub fn without(mut self, argument: u8, bits: u32) -> io::Result<Self> {
        let clear = condition(argument, SeccompCmpOp::MaskedEq(bits.into()), 0)?;
        self.rules
            .iter_mut()
            .for_each(|rule| rule.push(clear.clone()));
        Ok(self)
    }
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u32) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())
        .map_err(io::Error::other)
}

/// Refuses every call of this thread but these.
pub fn allow_only(calls: Vec<Call>, refusal: Refusal) -> io::Result<()> {
    let refused = match refusal {
        Refusal::Error => {
            denied::listen()?;
            SeccompAction::Trap
        }
        Refusal::End => SeccompAction::KillProcess,
    };
    let mut rules = BTreeMap::from([(SKIPPED, Vec::new())]);
    // What no argument satisfies is not in the list, where a call without rules means one without conditions.
    for call in calls.into_iter().filter(|call| !call.rules.is_empty()) {
        let conditions = call.rules.into_iter().filter(|rule| !rule.is_empty());
        let chain = conditions.map(SeccompRule::new).collect::<Result<_, _>>();
        rules.insert(call.number, chain.map_err(io::Error::other)?);
    }
    apply(rules, refused, SeccompAction::Allow)
}

/// The same, for a process that loads programs into the kernel.
pub fn dangerous_but_for_programs() -> Vec<libc::c_long> {
    let dangerous = DANGEROUS.iter().copied();
    dangerous.filter(|&call| call != libc::SYS_bpf).collect()
}

/// Refuses these calls of this thread, of those it starts, and of their programs.
pub fn forbid(numbers: &[libc::c_long]) -> io::Result<()> {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let rules = numbers.iter().map(|&number| (number, Vec::new()));
    apply(rules.collect(), SeccompAction::Allow, refused)?;
    apply_filter(&no_other_guise()).map_err(io::Error::other)
}

fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    named: SeccompAction,
) -> io::Result<()> {
    let arch = ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, others, named, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)
}

/// Tells whoever calls by a number of the other guise that there is no such call.
fn no_other_guise() -> [sock_filter; 5] {
    let instruction = |code, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    [
        // The number of the call comes first in what the filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
            0,
            2,
            OTHER_GUISE,
        ),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            0,
            SKIPPED as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, unknown),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::thread;

    /// What this takes to end a thread that may do nothing else.
    fn ending() -> Vec<Call> {
        let calls = [
            libc::SYS_futex,
            libc::SYS_munmap,
            libc::SYS_madvise,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigprocmask,
            libc::SYS_exit,
            libc::SYS_close,
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_brk,
            libc::SYS_rt_sigreturn,
        ];
        calls.map(Call::any).into()
    }

    #[test]
    fn a_call_is_allowed_only_on_the_descriptors_it_is_bound_to() {
        let (own, other) = (
            File::open("/dev/zero").unwrap(),
            File::open("/dev/zero").unwrap(),
        );
        let number = |file: &File| file.as_raw_fd() as u32;
        let bound = Call::any(libc::SYS_read).within(0, &[number(&own)..=number(&own)]);
        let calls = [ending(), vec![bound.unwrap()]].concat();
        let tried = move || {
            allow_only(calls, Refusal::Error).unwrap();
            let read = |file: &File| rustix::io::read(file, &mut [0; 4]);
            (read(&own), read(&other))
        };
        let (own, other) = thread::spawn(tried).join().unwrap();
        assert_eq!(own, Ok(4));
        assert_eq!(other, Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn a_call_bound_to_no_descriptor_at_all_is_refused() {
        let file = File::open("/dev/zero").unwrap();
        let nowhere = Call::any(libc::SYS_read).within(0, &[]).unwrap();
        let calls = [ending(), vec![nowhere]].concat();
        let tried = move || {
            allow_only(calls, Refusal::Error).unwrap();
            rustix::io::read(&file, &mut [0; 4])
        };
        let read = thread::spawn(tried).join().unwrap();
        assert_eq!(read, Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn what_is_forbidden_is_forbidden_to_programs_as_well() {
        let tried = || {
            forbid(&[libc::SYS_sethostname, libc::SYS_unshare]).unwrap();
            let program = std::process::Command::new("unshare")
                .args(["--uts", "true"])
                .output();
            program.unwrap()
        };
        let program = thread::spawn(tried).join().unwrap();
        assert!(!program.status.success());
        let told = String::from_utf8(program.stderr).unwrap();
        assert!(told.contains("Operation not permitted"), "{told}");
    }
}
