"""The system call filter: the table against Docker's family, and the program against the table."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.runtime import profile, seccomp, syscalls

ALLOW, DENY, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
X86_64, I386, AARCH64, S390X = 0xC000003E, 0x40000003, 0xC00000B7, 0x80000016
X32 = 0x40000000
CONTAINERS_PROFILE = Path("/usr/share/containers/seccomp.json")


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: an interpreter of the instructions in use."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    instructions = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        code, true, false, constant = instructions[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, constant)[0]
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x05:
            at += constant
        elif code == 0x06:
            return constant
        else:
            holds = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x35: accumulator >= constant,
            }[code]
            at += true if holds else false


def default_program(machine: str = "x86_64", *more: str) -> bytes:
    section = profile.default_section((*profile.CAPABILITIES, *more), machine)
    assert section is not None
    return seccomp.assemble(section)


PROGRAM = default_program()


def section_of(*rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"action": "SCMP_ACT_ALLOW", **rule} for rule in rules],
    }


# --- the table ---


def test_361_names_are_allowed_outright_besides_the_tracing_calls() -> None:
    tracing = {"ptrace", "process_vm_readv", "process_vm_writev"}
    assert len(set(profile.ALWAYS) - tracing) == 361
    assert len(profile.ALWAYS) == len(set(profile.ALWAYS))


# Why ours differs from the profile of Debian 12's containers-common (2022, of podman and buildah):
NEWER_THAN_THAT_FILE = {
    "cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "getxattrat",
    "listmount", "listxattrat", "map_shadow_stack", "mseal", "removexattrat", "riscv_hwprobe", "setxattrat",
    "statmount", "uretprobe",
}  # fmt: skip
PODMAN_REFUSES = {"io_pgetevents", "io_pgetevents_time64", "vmsplice"}
PODMAN_LEAVES_TO_CAPABILITIES = {  # Docker opens these with a capability only
    "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "get_mempolicy", "mbind", "mount", "mount_setattr",
    "move_mount", "open_tree", "pidfd_getfd", "reboot", "set_mempolicy", "setns", "syslog", "umount",
    "umount2", "unshare",
}  # fmt: skip
DOCKER_REFUSES = {"keyctl", "pivot_root"}
OF_NO_MACHINE_HERE = {"readdir", "sigaction", "signal", "sigpending", "sigsuspend", "syscall", "timerfd"}


@pytest.mark.skipif(not CONTAINERS_PROFILE.exists(), reason="containers-common is not installed")
def test_names_are_those_of_the_installed_profile_but_for_known_reasons() -> None:
    theirs = set()
    for rule in json.loads(CONTAINERS_PROFILE.read_text())["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if (
            rule["action"] == "SCMP_ACT_ALLOW"
            and set(includes.get("caps", ())) <= set(profile.CAPABILITIES)
            and not set(excludes.get("caps", ())) & set(profile.CAPABILITIES)
            and set(includes.get("arches", ["amd64"])) & {"amd64", "x86", "x32"}
        ):
            theirs.update(rule["names"])
    ours = {
        name
        for rule in profile.default_rules(profile.CAPABILITIES, "x86_64")
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    assert ours - theirs == NEWER_THAN_THAT_FILE | PODMAN_REFUSES
    assert theirs - ours == PODMAN_LEAVES_TO_CAPABILITIES | DOCKER_REFUSES | OF_NO_MACHINE_HERE


# Of calls that a capability opens; podman opens most of the others to all and lets the kernel decide.
PODMAN_OPENS_TO_ALL = {
    "CAP_BPF": {"bpf"},  # newer than that file, as are the next two
    "CAP_PERFMON": {"perf_event_open"},
    "CAP_SYSLOG": {"syslog"},
    "CAP_SYS_ADMIN": {
        "clone", "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "lsm_get_self_attr", "lsm_list_modules",
        "lsm_set_self_attr", "mount", "mount_setattr", "move_mount", "open_tree", "quotactl_fd", "syslog",
        "umount", "umount2", "unshare",
    },
    "CAP_SYS_BOOT": {"reboot"},
    "CAP_SYS_NICE": {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"},
    "CAP_SYS_PTRACE": {"pidfd_getfd"},
}  # fmt: skip
ONLY_PODMANS = {"CAP_AUDIT_WRITE": {"socket"}, "CAP_SYS_MODULE": {"query_module"}}


@pytest.mark.skipif(not CONTAINERS_PROFILE.exists(), reason="containers-common is not installed")
def test_what_a_capability_opens_is_as_in_the_installed_profile_but_for_known_reasons() -> None:
    theirs: dict[str, set[str]] = {}
    for rule in json.loads(CONTAINERS_PROFILE.read_text())["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args"):
            for capability in (rule.get("includes") or {}).get("caps", ()):
                theirs.setdefault(capability, set()).update(rule["names"])
    ours = {capability: set(names) for capability, names in profile.WITH_CAPABILITY.items()}
    for capability in theirs.keys() | ours.keys():
        own, other = ours.get(capability, set()), theirs.get(capability, set())
        assert own - other == PODMAN_OPENS_TO_ALL.get(capability, set()), capability
        assert other - own == ONLY_PODMANS.get(capability, set()), capability


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("capability", sorted(profile.WITH_CAPABILITY))
def test_a_capability_opens_its_calls_on_every_arm_and_no_others(machine: str, capability: str) -> None:
    arms = {
        "x86_64": [(X86_64, syscalls.X86_64, 0), (X86_64, syscalls.X32, X32), (I386, syscalls.I386, 0)],
        "aarch64": [(AARCH64, syscalls.AARCH64, 0)],
    }[machine]
    without = [name for name in profile.CAPABILITIES if name != capability]
    programs = {}
    for held in ((), (capability,)):
        section = profile.default_section([*without, *held], machine)
        assert section is not None
        programs[bool(held)] = seccomp.assemble(section)
    gated = {name for names in profile.WITH_CAPABILITY.values() for name in names}
    for arch, numbers, offset in arms:
        for name in gated & numbers.keys() - {"clone"}:  # which is allowed without new namespaces
            opened = any(name in profile.WITH_CAPABILITY.get(c, ()) for c in without)
            mine = name in profile.WITH_CAPABILITY[capability]
            refused = ENOSYS if name == "clone3" else DENY
            assert run(programs[False], arch, numbers[name] + offset) == (ALLOW if opened else refused), name
            assert run(programs[True], arch, numbers[name] + offset) == (
                ALLOW if opened or mine else refused
            ), name


@pytest.mark.parametrize("family", [profile.AF_ALG, profile.AF_VSOCK])
def test_the_other_arms_refuse_the_sockets_too(family: int) -> None:
    arms = [(PROGRAM, I386, syscalls.I386, 0), (PROGRAM, X86_64, syscalls.X32, X32)]
    arms.append((default_program("aarch64"), AARCH64, syscalls.AARCH64, 0))
    for program, arch, numbers, offset in arms:
        assert run(program, arch, numbers["socket"] + offset, family) == DENY
        assert run(program, arch, numbers["socket"] + offset, family | 1 << 32) == DENY
        assert run(program, arch, numbers["socket"] + offset, 2) == ALLOW
        assert run(program, arch, numbers["personality"] + offset, 0x400000) == DENY
        assert run(program, arch, numbers["clone"] + offset, 0x10000000) == DENY


def test_every_name_is_a_call_of_some_machine() -> None:
    known = {*syscalls.X86_64, *syscalls.I386, *syscalls.AARCH64}
    of_other_machines = {  # 32-bit arm and riscv
        "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2",
        "riscv_hwprobe", "fstatat64", "recv", "send", "utimensat_time64", "newfstatat", "accept",
        "semop", "semtimedop", "shmat", "msgsnd", "riscv_flush_icache",
    }  # fmt: skip
    named = {*profile.ALWAYS, *(name for names in profile.WITH_CAPABILITY.values() for name in names)}
    named |= {name for names in profile.OF_ARCHITECTURE.values() for name in names}
    assert named - known <= of_other_machines


def test_an_unknown_machine_has_no_profile() -> None:
    assert profile.default_section((), "s390x") is None


# --- the program ---


@settings(max_examples=300)
@given(number=st.integers(0, 600), arguments=st.lists(st.integers(0, (1 << 64) - 1), max_size=6))
def test_a_call_without_argument_rules_is_answered_by_its_name(number: int, arguments: list[int]) -> None:
    name = {value: key for key, value in syscalls.X86_64.items()}.get(number)
    if name in ("clone", "clone3", "socket", "personality"):
        return
    answer = run(PROGRAM, X86_64, number, *arguments)
    if number > max(syscalls.X86_64.values()):
        assert answer == ENOSYS
    else:
        allowed = {*profile.ALWAYS, *profile.OF_ARCHITECTURE["x86_64"], "chroot"}
        assert answer == (ALLOW if name in allowed else DENY)


@pytest.mark.parametrize(
    ("arch", "names", "offset"),
    [
        (X86_64, syscalls.X86_64, 0),
        (X86_64, syscalls.X32, X32),
        (I386, syscalls.I386, 0),
        (AARCH64, syscalls.AARCH64, 0),
    ],
)
def test_each_arch_knows_the_calls_by_its_own_numbers(arch: int, names: dict[str, int], offset: int) -> None:
    program = default_program("aarch64") if arch == AARCH64 else PROGRAM
    for name in ("read", "execve", "close_range", "openat2", "chroot", "mknodat"):
        assert run(program, arch, names[name] + offset) == ALLOW, name
    for name in ("mount", "umount2", "setns", "unshare", "bpf", "keyctl", "io_uring_setup", "userfaultfd"):
        assert run(program, arch, names[name] + offset) == DENY, name
    assert run(program, arch, names["clone3"] + offset) == ENOSYS


def test_another_arch_gets_the_default_answer() -> None:
    assert run(PROGRAM, S390X, 3) == DENY
    assert run(PROGRAM, AARCH64, syscalls.AARCH64["read"]) == DENY


def test_clone_may_not_make_namespaces() -> None:
    clone = syscalls.X86_64["clone"]
    assert run(PROGRAM, X86_64, clone, 0x3D0F00) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(PROGRAM, X86_64, clone, flag | 17) == DENY
    with_admin = default_program("x86_64", "CAP_SYS_ADMIN")
    assert run(with_admin, X86_64, clone, 0x10000000) == ALLOW
    assert run(with_admin, X86_64, syscalls.X86_64["clone3"]) == ALLOW


@pytest.mark.parametrize("family", [*range(46), 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("upper", [0, 1, 0xFFFFFFFF])
def test_sockets_of_two_families_are_refused_whatever_the_upper_half(family: int, upper: int) -> None:
    answer = run(PROGRAM, X86_64, syscalls.X86_64["socket"], family | upper << 32)
    assert answer == (DENY if family in (profile.AF_ALG, profile.AF_VSOCK) else ALLOW)


@given(value=st.integers(0, (1 << 32) - 1) | st.sampled_from(profile.PERSONALITIES))
def test_five_personalities_are_allowed(value: int) -> None:
    answer = run(PROGRAM, X86_64, syscalls.X86_64["personality"], value)
    assert answer == (ALLOW if value in profile.PERSONALITIES else DENY)


_EDGES = st.sampled_from([0, 1, 5, (1 << 32) - 1, 1 << 32, (1 << 32) + 5, (5 << 32) + 5, (1 << 64) - 1])
_VALUES = _EDGES | st.integers(0, (1 << 64) - 1)


@settings(max_examples=400)
@given(
    operator=st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]),
    value=_VALUES,
    second=_VALUES,
    argument=_VALUES,
)
def test_comparisons_are_those_of_64_bits(operator: str, value: int, second: int, argument: int) -> None:
    rule = {"index": 2, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second & value}
    program = seccomp.assemble(section_of({"names": ["read"], "args": [rule]}))
    holds = {
        "EQ": argument == value,
        "NE": argument != value,
        "LT": argument < value,
        "LE": argument <= value,
        "GT": argument > value,
        "GE": argument >= value,
        "MASKED_EQ": argument & value == second & value,
    }[operator]
    assert run(program, X86_64, 0, 0, 0, argument) == (ALLOW if holds else DENY)


def test_all_comparisons_of_one_rule_must_hold() -> None:
    both = [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 1, "op": "SCMP_CMP_GT", "value": 2}]
    program = seccomp.assemble(section_of({"names": ["read"], "args": both}))
    answers = [run(program, X86_64, 0, a, b) for a, b in ((1, 3), (1, 2), (0, 3))]
    assert answers == [ALLOW, DENY, DENY]


def test_the_program_is_as_the_kernel_wants_it() -> None:
    assert len(PROGRAM) % 8 == 0
    assert len(PROGRAM) // 8 <= 4096


def test_an_unknown_action_is_an_error() -> None:
    with pytest.raises(ValueError, match="SCMP_ACT_NONE"):
        seccomp.assemble(section_of({"names": ["read"], "action": "SCMP_ACT_NONE"}))
