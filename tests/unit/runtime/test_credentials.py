"""The rules of credentials, against the kernel's own."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import libc
from builder.runtime.ownership import credentials as model
from builder.runtime.ownership.credentials import CAP_CHOWN, UNCHANGED, Credentials, credentials_of

ALL = (1 << 41) - 1
NUMBERS = {
    "x86_64": {
        "setuid": 105,
        "setgid": 106,
        "setreuid": 113,
        "setregid": 114,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "setfsuid": 122,
        "setfsgid": 123,
    },
    "aarch64": {
        "setuid": 146,
        "setgid": 144,
        "setreuid": 145,
        "setregid": 143,
        "setgroups": 159,
        "setresuid": 147,
        "setresgid": 149,
        "setfsuid": 151,
        "setfsgid": 152,
    },
}.get(platform.machine(), {})

IDS = st.sampled_from([0, 0, 1, 2, 3, UNCHANGED])
CALLS = st.one_of(
    st.tuples(st.sampled_from(["setuid", "setgid", "setfsuid", "setfsgid"]), IDS),
    st.tuples(st.sampled_from(["setreuid", "setregid"]), IDS, IDS),
    st.tuples(st.sampled_from(["setresuid", "setresgid"]), IDS, IDS, IDS),
    st.tuples(st.just("setgroups"), st.lists(st.sampled_from([5, 6, 7]), max_size=3)),
    st.tuples(st.just("keep"), st.booleans()),
    st.tuples(st.just("ambient"), st.sampled_from([0, 7])),
    st.tuples(
        st.just("capset"), st.sampled_from([0, 1, CAP_CHOWN | 0xC0, ALL]), st.sampled_from([0, 0xC1, ALL])
    ),
)


class Kernel:
    """This process's own credentials, by raw system calls: the C library's would ask all threads."""

    def __init__(self) -> None:
        self.syscall = ctypes.CDLL(None, use_errno=True).syscall

    def call(self, name: str, *arguments: Any) -> int:
        """0, or the errno."""
        if name == "keep":
            libc.prctl(libc.PR_SET_KEEPCAPS, int(arguments[0]))
            return 0
        try:
            if name == "capset":
                libc.set_capabilities(arguments[0], arguments[1], arguments[1])
                return 0
            if name == "ambient":
                libc.prctl(libc.PR_CAP_AMBIENT, 2, arguments[0])
                return 0
        except OSError as error:
            return error.errno or 0
        if name == "setgroups":
            groups = (ctypes.c_uint32 * len(arguments[0]))(*arguments[0])
            arguments = (len(arguments[0]), groups)
        else:
            arguments = tuple(ctypes.c_uint32(number) for number in arguments)
        if self.syscall(NUMBERS[name], *arguments) == -1:
            return ctypes.get_errno()
        return 0

    def state(self) -> list[Any]:
        """What a Credentials has, as JSON can tell it."""
        with open("/proc/self/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file)
        uids, gids = ([int(number) for number in lines[kind].split()] for kind in (b"Uid", b"Gid"))
        groups = sorted(int(number) for number in lines[b"Groups"].split())
        sets = (int(lines[kind], 16) & ALL for kind in (b"CapEff", b"CapPrm", b"CapInh", b"CapAmb"))
        return [*uids, *gids, groups, *sets]


def live(calls: list[tuple[Any, ...]]) -> list[list[Any]]:
    """The real thing in a child: [errno, state] after each call."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel, told = Kernel(), []
            os.setgroups([])
            for call in calls:
                code = kernel.call(*call)
                told.append([code, kernel.state()])
            os.write(writing, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    seen: list[list[Any]] = json.loads(content)
    return seen


def imagine(calls: list[tuple[Any, ...]]) -> list[list[Any]]:
    """The same in the model."""
    _, held_by_root, _ = libc.capabilities()
    held = credentials_of(0, 0, (), held_by_root & ALL, ALL)
    told = []
    for name, *arguments in calls:
        code = 0
        try:
            if name == "keep":
                held = held._replace(keeps=arguments[0])
            elif name == "capset":
                held = model.capset(held, *arguments, arguments[1])
            elif name == "ambient":
                held = model.raise_ambient(held, 1 << arguments[0])
            elif name == "setgroups":
                held = model.setgroups(held, tuple(arguments[0]))
            else:
                held = getattr(model, name)(held, *arguments)
        except OSError as error:
            code = error.errno or 0
        if name in ("setfsuid", "setfsgid"):
            code = 0
        told.append([code, [*held[0:8], list(held.groups), *held[9:13]]])
    return told


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not NUMBERS, reason="needs root")
@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, max_size=8))
def test_every_sequence_of_calls_ends_as_in_the_kernel(calls: list[tuple[Any, ...]]) -> None:
    real = live(calls)
    for entry, call in zip(real, calls, strict=True):
        if call[0] in ("setfsuid", "setfsgid"):
            entry[0] = 0
    assert imagine(calls) == real


def who(**changes: Any) -> Credentials:
    return credentials_of(1000, 1000, (8,))._replace(**changes)


def test_a_user_cannot_become_root_again() -> None:
    root = credentials_of(0, 0, (), ALL, ALL)
    user = model.setresuid(root, 1000, 1000, 1000)
    assert (user.effective, user.permitted) == (0, 0)
    with pytest.raises(PermissionError):
        model.setuid(user, 0)


def test_a_set_id_program_gives_its_owners_and_saves_them() -> None:
    after = model.executed(who(), 0o6755, 2000, 50)
    assert after[0:8] == (1000, 2000, 2000, 2000, 1000, 50, 50, 50)
    assert model.executed(who(), 0o6745, 2000, 50).egid == 1000  # no x for the group: not a set-id bit
    assert model.executed(who(), 0o755, 0, 0)[0:9] == who()[0:9]


def test_roots_programs_give_the_bounding_set_and_no_more() -> None:
    user = who(bounding=0xFF)
    assert model.executed(user, 0o4755, 0, 0)[9:11] == (0xFF, 0xFF)
    assert model.executed(user, 0o755, 0, 0)[9:11] == (0, 0)
    assert model.executed(user._replace(ruid=0), 0o755, 0, 0)[9:11] == (0, 0xFF)


def test_ambient_capabilities_go_to_programs_but_not_to_set_id_ones() -> None:
    user = credentials_of(1000, 1000, (), 7, 0xFF, 3)
    assert model.executed(user, 0o755, 0, 0)[9:13] == (3, 3, 3, 3)
    assert model.executed(user, 0o4755, 2000, 0)[9:13] == (0, 0, 3, 0)


@pytest.mark.parametrize(
    ("owner", "uid", "gid", "allowed"),
    [
        (1000, 1000, UNCHANGED, True),
        (1000, UNCHANGED, 8, True),
        (1000, 1000, 1000, True),
        (1000, UNCHANGED, 9, False),
        (1000, 5, UNCHANGED, False),
        (5, UNCHANGED, 8, False),
        (5, 5, UNCHANGED, False),
        (5, UNCHANGED, UNCHANGED, True),
    ],
)
def test_a_file_is_given_away_by_its_owner_to_a_group_of_its_own(
    owner: int, uid: int, gid: int, allowed: bool
) -> None:
    assert model.may_give(who(), owner, uid, gid) is allowed
    assert model.may_give(who(effective=CAP_CHOWN), owner, uid, gid)


def test_groups_are_limited_and_sorted() -> None:
    root = credentials_of(0, 0, (), ALL, ALL)
    assert model.setgroups(root, (3, 1, 2)).groups == (1, 2, 3)
    for groups in ((0,) * 65537, (UNCHANGED,)):
        with pytest.raises(OSError, match="Invalid") as refusal:
            model.setgroups(root, groups)
        assert refusal.value.errno == errno.EINVAL


def test_the_numbers_of_the_test_are_those_of_the_filter() -> None:
    from builder.runtime import syscalls

    table = {"x86_64": syscalls.X86_64, "aarch64": syscalls.AARCH64}.get(platform.machine(), {})
    assert {name: table[name] for name in NUMBERS} == NUMBERS


@pytest.mark.parametrize(
    ("mode", "owner", "group", "wanted", "granted"),
    [
        (0o100644, 0, 0, 4, True),
        (0o100644, 0, 0, 2, False),
        (0o100600, 1000, 0, 6, True),
        (0o100066, 1000, 8, 4, False),  # the owner's bits count for the owner, however few
        (0o100060, 0, 8, 6, True),
        (0o100006, 0, 8, 4, False),
        (0o040755, 0, 0, 3, False),
        (0o041777, 0, 0, 3, True),
        (0o100644, 1000, 1000, 1, False),
    ],
)
def test_who_is_not_root_gets_what_the_mode_grants(
    mode: int, owner: int, group: int, wanted: int, granted: bool
) -> None:
    assert model.grants(who(), mode, owner, group, wanted) is granted
    able = who(effective=model.CAP_DAC_OVERRIDE)
    assert model.grants(able, mode, owner, group, wanted) is (wanted != 1 or bool(mode & 0o111))
    reading = who(effective=model.CAP_DAC_READ_SEARCH)
    assert model.grants(reading, mode, owner, group, wanted) is (granted or wanted == 4)
