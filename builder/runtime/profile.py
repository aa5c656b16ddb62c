"""The default seccomp profile of RUN, as a table: which system calls a step may make.

The facts (names, argument rules, which capability opens which calls) are those of Docker's default
profile as of 2026; a test compares them with the profile that Debian's containers-common installs.
`default_rules` resolves the table for one set of capabilities into the `syscalls` of an OCI
`linux.seccomp` section, as Docker does before it hands a spec to a runtime. Calls that a machine's
architecture does not have are named all the same; `seccomp` and libseccomp skip them.

Knows no numbers and no BPF (that is `seccomp`), and does no I/O.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

FURTHER_CAPABILITIES = (
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
)

EPERM, ENOSYS = 1, 38


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ALWAYS = _names("""
_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat
lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd
msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause
pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget
semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt
shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
process_vm_readv process_vm_writev ptrace
""")

OF_ARCHITECTURE = {
    "x86_64": _names("arch_prctl modify_ldt"),
    "aarch64": _names("arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
}

WITH_CAPABILITY = {
    "CAP_BPF": _names("bpf"),
    "CAP_DAC_READ_SEARCH": _names("open_by_handle_at"),
    "CAP_PERFMON": _names("perf_event_open"),
    "CAP_SYSLOG": _names("syslog"),
    "CAP_SYS_ADMIN": _names("""
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
        quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """),
    "CAP_SYS_BOOT": _names("reboot"),
    "CAP_SYS_CHROOT": _names("chroot"),
    "CAP_SYS_MODULE": _names("delete_module finit_module init_module"),
    "CAP_SYS_NICE": _names("get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    "CAP_SYS_PACCT": _names("acct"),
    "CAP_SYS_PTRACE": _names("kcmp pidfd_getfd process_madvise"),
    "CAP_SYS_RAWIO": _names("ioperm iopl"),
    "CAP_SYS_TIME": _names("clock_settime clock_settime64 settimeofday stime"),
    "CAP_SYS_TTY_CONFIG": _names("vhangup"),
}

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # PER_LINUX, PER_LINUX32, UNAME26 with both, query
AF_ALG, AF_VSOCK = 38, 40
NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* bits of clone(2)

ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}


def default_section(capabilities: Collection[str], machine: str) -> dict[str, Any] | None:
    """The OCI `linux.seccomp` section; None on a machine that the profile does not know."""
    if machine not in ARCHITECTURES:
        return None
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": list(ARCHITECTURES[machine]),
        "syscalls": default_rules(capabilities, machine),
    }


def default_rules(capabilities: Collection[str], machine: str) -> list[dict[str, Any]]:
    """The profile's rules for a step that holds `capabilities` on `machine` ("x86_64", "aarch64")."""
    names = {*ALWAYS, *OF_ARCHITECTURE.get(machine, ())}
    for capability in capabilities:
        names.update(WITH_CAPABILITY.get(capability, ()))
    rules = [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}, *_argument_rules()]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_allow("clone", 0, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES))
        # clone3's flags lie in memory, where no filter looks: ENOSYS sends the C library back to clone
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return rules


def _argument_rules() -> list[dict[str, Any]]:
    sockets = [
        _allow("socket", 0, "SCMP_CMP_LT", AF_ALG),
        _allow("socket", 0, "SCMP_CMP_EQ", AF_ALG + 1),
        _allow("socket", 0, "SCMP_CMP_GT", AF_VSOCK),
    ]
    return sockets + [_allow("personality", 0, "SCMP_CMP_EQ", value) for value in PERSONALITIES]


def _allow(name: str, index: int, comparison: str, value: int) -> dict[str, Any]:
    argument = {"index": index, "value": value, "op": comparison}
    if comparison == "SCMP_CMP_MASKED_EQ":
        argument["valueTwo"] = 0
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
