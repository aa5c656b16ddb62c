"""Which devices there are, by which names they are found, and which of them a step may have."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from builder.compiler.entitlements import DeviceGrants, device_grants
from builder.devices.edits import edits_of
from builder.devices.grants import granted_devices
from builder.devices.machine import MachineDevices
from builder.devices.registry import AUTO_ALLOW, CLASS, Registry, read_registry
from builder.errors import BuildError, UsageError
from builder.ops.exec import Device

NOBODY = DeviceGrants()


def entry(name: str, *, annotations: dict[str, str] | None = None, **edits: Any) -> dict[str, Any]:
    return {
        "name": name, "annotations": annotations or {}, "containerEdits": edits or {"env": [f"{name}=1"]},
    }  # fmt: skip


def write(file: Path, *devices: dict[str, Any], kind: str = "v.com/c", **more: Any) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"cdiVersion": "1.1.0", "kind": kind, "devices": devices, **more}))
    return file


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    first = (
        entry("foo"),
        entry("bar", annotations={CLASS: "class1"}),
        entry("baz", annotations={CLASS: "class1"}),
    )
    write(tmp_path / "a" / "one.json", *first)
    write(tmp_path / "a" / "two.json", entry("all"), kind="v.com/other")
    return read_registry([str(tmp_path / "a"), str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("v.com/c=foo", ["v.com/c=foo"]),
        ("v.com/c", ["v.com/c=bar"]),
        ("v.com/c=", ["v.com/c=bar"]),
        ("v.com/c=*", ["v.com/c=bar", "v.com/c=baz", "v.com/c=foo"]),
        ("class1", ["v.com/c=bar", "v.com/c=baz"]),
        ("v.com/c=fo", []),
        ("v.com", []),
        ("v.com/", []),
        ("/c=foo", []),
        ("*", []),
        ("", []),
    ],
)
def test_a_device_goes_by_its_name_its_kind_and_its_class(
    registry: Registry, asked: str, found: list[str]
) -> None:
    assert [device.name for device in registry.find(asked)] == found


def test_a_later_folder_wins_and_equals_take_a_device_from_each_other(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.json", entry("x"), entry("y"))
    write(tmp_path / "b" / "one.json", entry("x"), entry("z"))
    two = write(tmp_path / "b" / "two.json", entry("z"))

    found = read_registry([str(tmp_path / "a"), str(tmp_path / "b")])

    assert {name: device.path for name, device in found.devices.items()} == {
        "v.com/c=x": str(tmp_path / "b" / "one.json"),
        "v.com/c=y": str(tmp_path / "a" / "one.json"),
    }
    assert found.faults == [f"{two}: v.com/c=z is in {tmp_path}/b/one.json too, so neither counts"]


def test_a_file_that_is_no_specification_hides_no_other_and_is_told_of_what_is_missing(
    tmp_path: Path,
) -> None:
    write(tmp_path / "cdi" / "good.json", entry("x"))
    (tmp_path / "cdi" / "bad.yaml").write_text("kind: [")
    (tmp_path / "cdi" / "gone.json").symlink_to("nowhere")
    (tmp_path / "cdi" / "note.txt").write_text("no specification")
    (tmp_path / "cdi" / "folder.json").mkdir()
    registry = read_registry([str(tmp_path / "cdi")])

    assert list(registry.devices) == ["v.com/c=x"]
    with pytest.raises(BuildError, match=r"device v\.com/c=y is required") as caught:
        granted_devices([Device("v.com/c=y", required=True)], registry, NOBODY)
    assert caught.value.hint == "did you mean v.com/c=x?"
    assert [note.partition(": it")[0] for note in caught.value.notes] == [
        f"not read: {tmp_path}/cdi/bad.yaml",
        f"not read: {tmp_path}/cdi/gone.json: no such file or directory",
    ]


@pytest.mark.parametrize(
    ("allowed", "asked", "free"),
    [
        ([], "v.com/c=foo", False),
        (["device"], "v.com/c=foo", True),
        (["device="], "v.com/c=foo", True),
        (["device=v.com/c=foo"], "v.com/c=foo", True),
        (["device=v.com/c=bar"], "v.com/c=foo", False),
        (["device=v.com/c=bar", "device=v.com/c=foo"], "v.com/c=foo", True),
        (["device=v.com/c=*"], "v.com/c=foo", True),
        (["device=class1"], "v.com/c=bar", True),
        (["device=class1"], "v.com/c=*", False),
        (["device=v.com/c=foo,alias=my"], "v.com/c=foo", False),
        (["network.host", "security.insecure"], "v.com/c=foo", False),
    ],
)
def test_a_device_is_had_by_whom_it_is_granted(
    registry: Registry, allowed: list[str], asked: str, free: bool
) -> None:
    if free:
        assert granted_devices([Device(asked)], registry, device_grants(allowed))
        return
    with pytest.raises(BuildError, match="asked for, and not allowed") as caught:
        granted_devices([Device(asked)], registry, device_grants(allowed))
    assert "--allow device=v.com/c=" in (caught.value.hint or "")


def test_annotations_can_give_a_device_to_everybody(tmp_path: Path) -> None:
    write(tmp_path / "cdi" / "a.json", entry("a"), kind="v.com/free", annotations={AUTO_ALLOW: "true"})
    mine = entry("a", annotations={AUTO_ALLOW: "1"}), entry("b", annotations={AUTO_ALLOW: "no"})
    write(tmp_path / "cdi" / "b.json", *mine, kind="v.com/some")
    registry = read_registry([str(tmp_path / "cdi")])

    asked = [Device("v.com/free=a"), Device("v.com/some=a"), Device("v.com/some=a")]
    assert len(granted_devices(asked, registry, NOBODY)) == 2
    with pytest.raises(BuildError, match=r"device v\.com/some=b is asked for"):
        granted_devices([Device("v.com/some=*")], registry, NOBODY)


def test_a_grant_for_a_device_that_is_not_there_is_an_error(registry: Registry) -> None:
    with pytest.raises(BuildError, match=r"device v\.com/c=nope is required"):
        granted_devices([Device("v.com/c=foo")], registry, device_grants(["device=v.com/c=nope"]))


def test_who_is_granted_all_devices_may_lack_them_until_a_step_runs(tmp_path: Path) -> None:
    asked = [Device("v.com/c=x", required=True), Device("v.com/c=y")]

    every = MachineDevices([str(tmp_path)], DeviceGrants(every=True))
    assert every.check(asked) == ["device v.com/c=y is not there, and not required: the step runs without it"]
    with pytest.raises(BuildError, match="is required"):
        every.edits(asked, uid=0, gid=0)
    with pytest.raises(BuildError, match="is required"):
        MachineDevices([str(tmp_path)], NOBODY).check(asked)


@pytest.mark.parametrize(
    "text", ["device=a,b", "device=a,name=b", "device=a,alias=", 'device="a', "device=,alias=b"]
)
def test_a_grant_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="--allow device="):
        device_grants([text])


# ── what they change ─────────────────────────────────────────────────────────────────────────────────────


def edits(tmp_path: Path, *devices: dict[str, Any], uid: int = 0, gid: int = 0, **own: Any) -> Any:
    write(tmp_path / "cdi" / "a.json", *devices, containerEdits=own)
    return edits_of(list(read_registry([str(tmp_path / "cdi")]).devices.values()), uid=uid, gid=gid)


def test_a_specification_s_own_edits_come_once_and_first(tmp_path: Path) -> None:
    own = {"env": ["A=own", "B=own"], "additionalGids": [0, 5]}

    found = edits(tmp_path, entry("a", env=["A=a"], additionalGids=[6]), entry("b", env=["C=b"]), **own)

    assert list(found.env.items()) == [("A", "a"), ("B", "own"), ("C", "b")]
    assert found.groups == [5, 6]


def test_a_node_is_as_it_is_told_else_as_the_machine_has_it(tmp_path: Path) -> None:
    mode = stat.S_IMODE(Path("/dev/zero").lstat().st_mode)
    nodes = [
        {"path": "/dev/zero"},
        {"path": "/dev/mine", "hostPath": "/dev/zero", "fileMode": 0o640, "uid": 1},
        {"path": "/dev/told", "type": "b", "major": 7, "minor": 9, "gid": 0},
        {"path": "/dev/fifo", "type": "p"},
    ]

    found = edits(tmp_path, entry("a", deviceNodes=nodes), uid=12, gid=34)

    rows = [(n.path, n.type, n.major, n.minor, n.file_mode, n.uid, n.gid) for n in found.nodes.values()]
    assert rows == [
        ("/dev/zero", "c", 1, 5, mode, 12, 34),
        ("/dev/mine", "c", 1, 5, 0o640, 1, 34),
        ("/dev/told", "b", 7, 9, 0o666, 12, 0),
        ("/dev/fifo", "p", 0, 0, 0o666, 12, 34),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"deviceNodes": [{"path": "/dev/nowhere"}]}, "/dev/nowhere cannot be looked at"),
        ({"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc"}]}, "/etc is no device"),
        ({"deviceNodes": [{"path": "/dev/zero", "type": "b"}]}, "/dev/zero is of type c, not b"),
        ({"deviceNodes": [{"path": "dev/zero"}]}, "no absolute path"),
        ({"deviceNodes": [{"path": "/dev/zero", "permissions": "r"}]}, "for 'r' alone"),
        ({"mounts": [{"hostPath": "/nowhere", "containerPath": "/a"}]}, "/nowhere, which it mounts on /a"),
        ({"mounts": [{"hostPath": "/etc", "containerPath": "a"}]}, "no absolute path"),
        ({"mounts": [{"hostPath": "/etc", "containerPath": "/a/.."}]}, "no absolute path"),
        ({"mounts": [{"hostPath": "x", "containerPath": "/a", "type": "ext4"}]}, "of type ext4"),
        ({"hooks": [{"hookName": "prestart", "path": "/h"}]}, "it has a prestart hook (/h)"),
        ({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}, "network interface"),
        ({"intelRdt": {}}, "intelRdt"),
    ],
)
def test_what_no_step_can_be_given_is_told_with_its_file(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(BuildError) as caught:
        edits(tmp_path, entry("a", **change))
    assert f"device v.com/c=a ({tmp_path}/cdi/a.json) cannot be given to a step" in str(caught.value)
    assert said in str(caught.value)
