"""What another runtime is told, and what is made of what it says."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from builder.errors import SandboxError
from builder.events import Event
from builder.isolation.choose import Standing
from builder.isolation.rungs import CHROOT, ROOT, USERNS, Isolation
from builder.runtime import outcome
from builder.runtime.foreign.config import network_of, plain_config
from builder.runtime.foreign.messages import failure_of, last_error
from builder.runtime.foreign.nodev import openable
from builder.runtime.profile import CAPABILITIES
from builder.runtime.spec import Bind, SecretFile, encode, sandbox_spec
from builder.sandboxes import Sandboxes

ALL = (1 << 64) - 1
CHOWN, SYS_ADMIN = 1 << 0, 1 << 21


def spec_with(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "lower": ["/lower"], "upper": "/upper", "work": "/work", "argv": ["true"], "env": [("A", "b")],
        "cwd": "/", "machine": "x86_64",
    }  # fmt: skip
    document: dict[str, Any] = json.loads(encode(sandbox_spec(**settings | changes)))
    return document


def plain(held: int = ALL, **changes: Any) -> dict[str, Any]:
    return plain_config(spec_with(**changes), "/stage/tree-1", held)


# --- config.json ---


def test_nothing_of_ours_is_left_in_it() -> None:
    mounts = [SecretFile("/s", "name"), Bind("/b", "/host", subpath="p")]
    text = json.dumps(plain(mounts=mounts))
    assert "x-" not in text
    assert "org.pybuild" not in text
    assert "/lower" not in text
    assert "/host" not in text
    assert "hostPath" not in text


def test_only_what_needs_the_containers_namespaces_is_mounted_by_the_runtime() -> None:
    config = plain(mounts=[Bind("/b", "/host")])
    assert [(mount["destination"], mount["type"]) for mount in config["mounts"]] == [
        ("/dev", "bind"),
        ("/proc", "proc"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
    ]
    assert config["mounts"][0]["source"] == "/stage/tree-1/dev"
    assert config["root"] == {"path": "/stage/tree-1"}


def test_what_protects_a_step_is_as_in_the_spec() -> None:
    spec, config = spec_with(uid=7, no_new_privileges=True), plain(uid=7, no_new_privileges=True)
    assert config["process"] == spec["process"]
    for name in ("maskedPaths", "readonlyPaths"):
        assert config["linux"][name] == spec["linux"][name]
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {"mount", "pid", "ipc", "uts", "cgroup"} == {row["type"] for row in config["linux"]["namespaces"]}


def test_capabilities_are_those_that_the_builder_has() -> None:
    config = plain(held=CHOWN | SYS_ADMIN)
    assert config["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    insecure = plain(held=CHOWN | SYS_ADMIN, insecure=True)
    assert set(insecure["process"]["capabilities"]["effective"]) == {"CAP_CHOWN", "CAP_SYS_ADMIN"}
    assert plain()["process"]["capabilities"]["bounding"] == list(CAPABILITIES)


@pytest.mark.hostile("AF_ALG")
def test_a_family_of_sockets_with_a_bit_too_many_is_not_above_the_refused_ones() -> None:
    rules = [rule for rule in plain()["linux"]["seccomp"]["syscalls"] if rule["names"] == ["socket"]]
    tests = [(rule["args"][0]["op"], rule["args"][0]["value"]) for rule in rules]
    assert ("SCMP_CMP_LT", 38) in tests
    assert {operator for operator, _ in tests} == {"SCMP_CMP_LT", "SCMP_CMP_EQ"}
    named = {value for operator, value in tests if operator == "SCMP_CMP_EQ"}
    assert named == {39, *range(41, 64)}


def test_insecure_steps_have_no_filter_here_too() -> None:
    assert plain(insecure=True)["linux"].get("seccomp") is None


def test_a_network_is_entered_before_and_not_made_by_the_runtime() -> None:
    assert network_of(spec_with()) is None
    assert network_of(spec_with(network="none")) == ""
    joined = spec_with(network="none")
    joined["linux"]["namespaces"][-1]["path"] = "/proc/7/ns/net"
    assert network_of(joined) == "/proc/7/ns/net"
    assert "network" not in {row["type"] for row in plain(network="none")["linux"]["namespaces"]}


# --- devices ---


def test_mounts_where_devices_can_be_opened_are_found() -> None:
    lines = b"""\
1 0 0:1 / / rw,relatime - overlay overlay rw
2 1 0:2 / /proc rw,nosuid,nodev - proc proc rw
3 1 0:3 / /dev/pts rw,nosuid - tmpfs none rw
4 3 0:4 / /dev/pts rw,nosuid - devpts devpts rw
5 1 0:5 / /a\\040b\\134 rw shared:1 - ext4 /dev/vda rw
6 1 0:6 / /covered rw - tmpfs none rw
7 6 0:7 / /covered rw,nodev - tmpfs none rw
"""
    assert openable(lines) == [b"/", b"/a b\\"]


# --- messages ---


def log(*messages: str, level: str = "error") -> bytes:
    return "".join(json.dumps({"level": level, "msg": message}) + "\n" for message in messages).encode()


@pytest.mark.parametrize(
    ("message", "step"),
    [
        ('runc create failed: unable to start container process: exec: "x": executable file not found in '
         "$PATH", "exec"),
        ('exec: "/x": stat /x: no such file or directory', "exec"),
        ("executable file `x` not found in $PATH: No such file or directory", "exec"),
        ("open executable: Permission denied", "exec"),
        ("error setting rlimit type 7: operation not permitted", "limit"),
        ("setrlimit `RLIMIT_NOFILE`: Operation not permitted", "limit"),
        ("chdir `/x`: Not a directory", "cwd"),
        ("something else", "runtime"),
    ],
)  # fmt: skip
def test_whose_fault_a_failure_is_is_told_from_the_message(message: str, step: str) -> None:
    failure = failure_of("runc", "create", log(message), 1)
    assert failure.step == step
    assert failure.text.startswith("runc create: ")
    assert "create failed" not in failure.text


def test_the_last_error_counts_and_warnings_do_not() -> None:
    assert last_error(log("first", "second") + log("careful", level="warning")) == "second"


def test_a_log_that_is_no_json_is_told_as_it_is() -> None:
    assert last_error(b"  panic: no idea\n") == "panic: no idea"
    assert failure_of("x", "start", b"", 7).text == "x start: it ended with exit code 7 and said nothing"


# --- outcomes ---


def test_an_outcome_is_told_apart_from_a_failure() -> None:
    usage = os.wait4(os.posix_spawn("/bin/true", ["true"], {}), 0)[2]
    told = outcome.decode(outcome.encode(9, usage))
    assert told is not None
    assert told["status"] == 9
    assert told["maxrss"] == usage.ru_maxrss
    assert outcome.decode(failure_of("x", "start", b"", 7).encode()) is None
    assert outcome.decode(b"cut o") is None


# --- rungs ---


@pytest.mark.parametrize(
    ("isolation", "told"),
    [
        (Isolation(CHROOT), "--runtime needs namespaces, and --isolation chroot has none"),
        (
            Isolation(USERNS, outer_proc=True),
            "--runtime runc cannot be used with --isolation userns: it needs a new /proc",
        ),
    ],
)
def test_where_no_other_runtime_can_run_that_is_said(isolation: Isolation, told: str) -> None:
    events: list[Event] = []
    sandboxes = Sandboxes(events.append, Standing(isolation), runtime="runc")
    with pytest.raises(SandboxError, match=told):
        sandboxes.start()


def test_a_missing_runtime_is_no_matter_until_a_step_is_run() -> None:
    Sandboxes(lambda _: None, Standing(Isolation(ROOT)), runtime="/no/such/runtime")
