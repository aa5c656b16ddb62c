"""Which calls are asked about, and what a spec becomes for a single id."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from builder.runtime import profile, seccomp, syscalls
from builder.runtime.ownership import handover
from builder.runtime.ownership.identity import Identity
from builder.runtime.ownership.request import table, with_recorded_owners
from builder.runtime.ownership.rules import notify_rules, notifying_section
from builder.runtime.ownership.supervisor import Supervisor
from builder.runtime.spec import RuntimeSpec, SecretFile, Tmpfs, encode, sandbox_spec
from tests.unit.runtime.test_seccomp import ALLOW, DENY, ENOSYS, I386, X32, X86_64, run

NOTIFY = 0x7FC00000
AARCH64 = 0xC00000B7
O_CREAT, O_TMPFILE, O_CLOEXEC = 0o100, 0o20200000, 0o2000000


def program(machine: str = "x86_64") -> bytes:
    section = profile.default_section(profile.CAPABILITIES, machine)
    return seccomp.assemble(notifying_section(section, list(profile.ARCHITECTURES[machine])))


PROGRAM = program()


def answer(name: str, *arguments: int) -> int:
    return run(PROGRAM, X86_64, syscalls.X86_64[name], *arguments)


@pytest.mark.parametrize("name", ["chown", "stat", "getuid", "setresuid", "mknodat", "execve", "symlink"])
def test_calls_about_owners_are_asked_about(name: str) -> None:
    assert answer(name) == NOTIFY
    number = syscalls.X32.get(name, syscalls.X86_64[name])
    assert run(PROGRAM, X86_64, number + X32) == NOTIFY
    assert run(PROGRAM, I386, syscalls.I386[name]) == NOTIFY


@pytest.mark.parametrize(
    "name", ["read", "openat", "open", "readlink", "utimensat", "getdents64", "getpid", "clone"]
)
def test_others_are_not(name: str) -> None:
    assert answer(name) == ALLOW


def test_opening_is_asked_about_where_it_may_make_or_change_a_file() -> None:
    for flags, expected in (
        (0, ALLOW),
        (O_CLOEXEC | 2, NOTIFY),
        (O_CLOEXEC, ALLOW),
        (O_CREAT, NOTIFY),
        (O_TMPFILE, NOTIFY),
    ):
        assert answer("open", 0, flags) == expected
        assert answer("openat", 0, 0, flags) == expected
    assert answer("openat", O_CREAT, O_CREAT, 0, O_CREAT) == ALLOW
    assert answer("openat", 0, 0, O_CREAT | 1 << 40) == NOTIFY  # the kernel takes it for an int
    assert run(PROGRAM, I386, syscalls.I386["open"], 0, O_CREAT) == NOTIFY


def test_a_step_of_a_user_is_asked_about_whatever_it_opens() -> None:
    for uid, expected in ((0, ALLOW), (1000, NOTIFY)):
        recorded = with_recorded_owners(spec(uid=uid), "x86_64")
        assert recorded.linux.seccomp is not None
        assembled = seccomp.assemble(recorded.linux.seccomp)
        assert run(assembled, X86_64, syscalls.X86_64["openat"], 0, 0, O_CLOEXEC) == expected


def test_statx_is_asked_about_where_owner_type_or_mode_are_wanted() -> None:
    assert answer("statx", 0, 0, 0, 0x7FF) == NOTIFY
    assert answer("statx", 0, 0, 0, 0x8) == NOTIFY
    assert answer("statx", 0, 0, 0, 0x200) == ALLOW


def test_options_and_limits_are_asked_about_where_they_tell_credentials() -> None:
    assert answer("prlimit64", 0, 10) == NOTIFY
    assert answer("prlimit64", 0, 7) == ALLOW
    assert answer("setrlimit", 10) == answer("getrlimit", 10) == NOTIFY
    assert answer("prctl", 8) == NOTIFY
    assert answer("getsockopt", 5, 1, 17) == NOTIFY
    assert answer("getsockopt", 5, 1, 16) == answer("getsockopt", 5, 6, 17) == ALLOW
    assert answer("prctl", 38) == ALLOW


def test_what_the_profile_refuses_stays_refused() -> None:
    assert answer("mount") == answer("pivot_root") == answer("setns") == DENY
    few = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}
    some = {**few, "syscalls": [{"names": ["stat"], "action": "SCMP_ACT_ALLOW"}]}
    strict = seccomp.assemble(notifying_section(some, []))
    assert run(strict, X86_64, syscalls.X86_64["stat"]) == NOTIFY
    assert run(strict, X86_64, syscalls.X86_64["chown"]) == DENY
    assert answer("clone3") == ENOSYS
    assert run(PROGRAM, 0x80000016, 4) == DENY


def test_without_a_profile_all_else_is_allowed() -> None:
    free = seccomp.assemble(notifying_section(None, ["SCMP_ARCH_X86_64"]))
    assert run(free, X86_64, syscalls.X86_64["mount"]) == ALLOW
    assert run(free, X86_64, syscalls.X86_64["chown"]) == NOTIFY


@pytest.mark.parametrize(
    ("machine", "audit", "numbers", "offset"),
    [
        ("x86_64", X86_64, syscalls.X86_64, 0),
        ("x86_64", X86_64, syscalls.X32, X32),
        ("x86_64", I386, syscalls.I386, 0),
        ("aarch64", AARCH64, syscalls.AARCH64, 0),
    ],
)
def test_whatever_is_asked_about_is_answered(
    machine: str, audit: int, numbers: dict[str, int], offset: int
) -> None:
    names = {name for rule in notify_rules() if rule["action"].endswith("NOTIFY") for name in rule["names"]}
    asked = {numbers[name] + offset for name in names if name in numbers}
    nothing: Any = None
    supervisor = Supervisor(nothing, Identity(nothing, nothing, nothing), nothing, machine)
    assert {number for arch, number in supervisor.numbers if arch == audit} >= asked
    assert {run(program(machine), audit, number) for number in asked} <= {NOTIFY, ALLOW, DENY}


def spec(**changes: Any) -> RuntimeSpec:
    settings: dict[str, Any] = {"lower": ["/l"], "upper": "/u", "work": "/w", "argv": ["x"], "env": []}
    return sandbox_spec(**{**settings, "cwd": "/", "machine": "x86_64", **changes})


def test_a_user_keeps_capabilities_and_believes_to_have_none() -> None:
    recorded = with_recorded_owners(spec(uid=1000, gid=1000), "x86_64")
    assert recorded.process.capabilities.effective == profile.CAPABILITIES
    assert json.loads(recorded.annotations[handover.ANNOTATION])["capabilities"] == []
    assert recorded.process.user.uid == 1000


def test_owners_of_mounts_in_memory_become_known_owners() -> None:
    mounts = [
        SecretFile(target="/run/s", name="s", uid=5, gid=6),
        Tmpfs(target="/t"),
        Tmpfs(target="/m", gid=7),
    ]
    recorded = with_recorded_owners(spec(mounts=mounts), "x86_64")
    told = json.loads(encode(recorded))
    known = handover.known_owners(handover.described(told), {handover.TABLE: table({"bin/l": (8, 9)})})
    assert known == {"/run/s": (5, 6), "/m": (0, 7), "/bin/l": (8, 9)}
    assert not [o for mount in recorded.mounts[-3:] for o in mount.options if o.startswith(("uid=", "gid="))]


def test_the_filter_is_as_long_as_the_kernel_takes() -> None:
    assert len(PROGRAM) // struct.calcsize("HBBI") < 4096
