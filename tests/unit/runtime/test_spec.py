"""The spec of a step: what the default sandbox is, and that others can read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builder.errors import BuildError
from builder.runtime.devicenodes import DeviceNode
from builder.runtime.spec import (
    ROOTFS_ANNOTATION,
    UNLIMITED,
    Bind,
    Overlay,
    RuntimeSpec,
    SecretFile,
    Tmpfs,
    decode,
    encode,
    is_insecure,
    parse_ulimit,
    sandbox_spec,
    with_insecure_devices,
)


def spec(**changes: Any) -> RuntimeSpec:
    given: dict[str, Any] = {
        "lower": ["/l/1", "/l/2"],
        "upper": "/u",
        "work": "/w",
        "argv": ["/bin/sh", "-c", "true"],
        "env": [("PATH", "/bin"), ("A", "b=c")],
        "cwd": "/",
        "machine": "x86_64",
    }
    return sandbox_spec(**{**given, **changes})


def options(mount: Any) -> tuple[str, ...]:
    return spec(mounts=[mount]).mounts[-1].options


def test_the_document_has_the_names_of_the_oci_runtime_spec() -> None:
    document = json.loads(encode(spec(uid=5, gid=6, groups=[7], hostname="h")))
    assert document["ociVersion"].startswith("1.")
    assert document["process"]["user"] == {"uid": 5, "gid": 6, "umask": 18, "additionalGids": [7]}
    assert document["process"]["args"] == ["/bin/sh", "-c", "true"]
    assert document["process"]["env"] == ["PATH=/bin", "A=b=c"]
    assert document["hostname"] == "h"
    assert document["linux"]["maskedPaths"]
    assert document["linux"]["readonlyPaths"]
    assert document["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {n["type"] for n in document["linux"]["namespaces"]} == {"mount", "pid", "ipc", "uts", "cgroup"}
    assert json.loads(document["annotations"][ROOTFS_ANNOTATION])["lower"] == ["/l/1", "/l/2"]


def test_a_spec_comes_back_from_its_bytes() -> None:
    made = spec(mounts=[Bind("/a", "/b"), Tmpfs("/t", size=5)], rlimits=[parse_ulimit("nofile=1:2")])
    assert decode(encode(made)) == made


def test_bytes_that_are_no_utf_8_come_back() -> None:
    made = spec(argv=["/bin/echo", b"a\xff".decode(errors="surrogateescape")])
    assert json.loads(encode(made))["process"]["args"][1].encode(errors="surrogateescape") == b"a\xff"


def test_a_plain_user_hands_no_capability_on_to_its_command() -> None:
    held = spec(uid=1000).process.capabilities
    assert len(held.bounding) == 14
    assert (held.inheritable, held.ambient) == ((), ())
    assert held.effective == held.permitted == held.bounding
    assert held == spec().process.capabilities


def test_network_none_is_a_new_namespace_and_any_other_word_an_error() -> None:
    assert "network" in {namespace.type for namespace in spec(network="none").linux.namespaces}
    with pytest.raises(ValueError, match="bridge"):
        spec(network="bridge")


def test_insecure_has_no_filter_and_no_masks_and_all_capabilities() -> None:
    insecure = spec(insecure=True)
    assert insecure.linux.seccomp is None
    assert insecure.linux.masked_paths == insecure.linux.readonly_paths == ()
    assert len(insecure.process.capabilities.bounding) == 41
    assert json.loads(insecure.annotations[ROOTFS_ANNOTATION])["nodev"] is False
    assert is_insecure(insecure)
    assert not is_insecure(spec())


def test_insecure_steps_of_any_user_hand_their_capabilities_on_and_no_others_do() -> None:
    for uid in (0, 1000):
        sets = spec(insecure=True, uid=uid).process.capabilities
        assert sets.bounding == sets.effective == sets.permitted == sets.inheritable == sets.ambient
        sets = spec(uid=uid).process.capabilities
        assert sets.inheritable == sets.ambient == ()


def test_insecure_steps_have_the_references_devices_besides_their_own() -> None:
    own = DeviceNode(path="/dev/fuse", type="c", major=10, minor=229, file_mode=0o600)

    devices = with_insecure_devices(spec(insecure=True, devices=[own]), 2).linux.devices

    assert devices[0] == own
    assert [device.path for device in devices].count("/dev/fuse") == 1
    assert {device.path for device in devices} >= {
        "/dev/kmsg",
        "/dev/loop-control",
        "/dev/loop0",
        "/dev/loop1",
    }


def test_relative_paths_are_refused() -> None:
    for changes in ({"upper": "u"}, {"cwd": "work"}, {"lower": ["l"]}):
        with pytest.raises(ValueError, match="absolute"):
            spec(**changes)


def test_mounts_come_last_and_in_order() -> None:
    made = spec(mounts=[Tmpfs("/b"), Tmpfs("/a")])
    assert [mount.destination for mount in made.mounts][-2:] == ["/b", "/a"]


def test_nothing_that_a_step_brings_along_can_open_devices() -> None:
    for mount in (
        Bind("/m", "/s", readonly=False),
        Tmpfs("/m"),
        Overlay("/m", ("/l",)),
        SecretFile("/m", "n"),
    ):
        assert "nodev" in options(mount)


def test_layers_of_a_mounted_snapshot_are_top_first_as_the_kernel_has_them() -> None:
    given = options(Overlay("/m", ("/low", "/high"), subpath="d"))
    assert [option for option in given if option.startswith("lowerdir+=")] == [
        "lowerdir+=/high",
        "lowerdir+=/low",
    ]
    assert "x-subpath=d" in given
    assert "ro" in given


def test_upper_folders_go_only_with_writable_mounts() -> None:
    assert not any("upperdir" in o for o in options(Overlay("/m", ("/l",), upper="/x", work="/y")))
    assert "upperdir=/x" in options(Overlay("/m", ("/l",), readonly=False, upper="/x", work="/y"))


def test_a_secret_is_named_but_not_told() -> None:
    made = spec(mounts=[SecretFile("/run/secrets/k", "k", mode=0o440, uid=3, gid=4)])
    assert set(made.mounts[-1].options) >= {"ro", "x-file=k", "mode=440", "uid=3", "gid=4"}


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [("nofile=1024:2048", 1024, 2048), ("nofile=1024", 1024, 1024), ("core=0:-1", 0, UNLIMITED)],
)
def test_ulimits_are_understood(text: str, soft: int, hard: int) -> None:
    limit = parse_ulimit(text)
    assert (limit.soft, limit.hard) == (soft, hard)
    assert limit.type == f"RLIMIT_{text.split('=')[0].upper()}"


@pytest.mark.parametrize(
    "text", ["", "nofile", "files=1", "nofile=x", "nofile=5:1", "nofile=-2", "nofile=1:2:3"]
)
def test_other_ulimits_are_errors(text: str) -> None:
    with pytest.raises(BuildError):
        parse_ulimit(text)
