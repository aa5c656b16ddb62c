"""CDI specifications: what is read, and what is told of a text that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builder.devices.documents import DeviceNode, Document, Hook, IntelRdt, Mount, NetDevice, read_document
from builder.devices.errors import CdiError

ENV: dict[str, Any] = {"env": ["A=1"]}


def spec_of(version: str = "1.1.0", kind: str = "v.com/c", **more: Any) -> dict[str, Any]:
    return {"cdiVersion": version, "kind": kind, "devices": [{"name": "d", "containerEdits": ENV}], **more}


def with_edits(version: str = "1.1.0", **edits: Any) -> dict[str, Any]:
    return spec_of(version, devices=[{"name": "d", "containerEdits": edits}])


def read(plain: object) -> Document:
    return read_document(json.dumps(plain).encode(), is_json=True)


def test_all_edits_are_read_from_json_and_from_yaml() -> None:
    edits = {
        "env": ["A=1", "B="],
        "deviceNodes": [
            {
                "path": "/dev/x", "hostPath": "/dev/y", "type": "c", "major": 1, "minor": 2, "fileMode": 432,
                "permissions": "rw", "uid": 3, "gid": 4,
            }
        ],
        "netDevices": [{"hostInterfaceName": "eth1", "name": "eth0"}],
        "hooks": [{"hookName": "createContainer", "path": "/h", "args": ["h"], "env": ["X=1"], "timeout": 5}],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"], "type": "bind"}],
        "intelRdt": {"closID": "c", "l3CacheSchema": "l", "memBwSchema": "m", "schemata": ["s"]},
        "additionalGids": [7],
    }  # fmt: skip

    document = read(with_edits(**edits))

    found = document.devices[0].container_edits
    assert found.env == ("A=1", "B=")
    assert found.device_nodes == (
        DeviceNode(path="/dev/x", host_path="/dev/y", type="c", major=1, minor=2, file_mode=0o660,
                   permissions="rw", uid=3, gid=4),
    )  # fmt: skip
    assert found.net_devices == (NetDevice(host_interface_name="eth1", name="eth0"),)
    assert found.hooks == (
        Hook(hook_name="createContainer", path="/h", args=("h",), env=("X=1",), timeout=5),
    )
    assert found.mounts == (Mount(host_path="/a", container_path="/b", options=("ro",), type="bind"),)
    assert found.intel_rdt == IntelRdt(clos_id="c", l3_cache_schema="l", mem_bw_schema="m", schemata=("s",))
    assert found.additional_gids == (7,)
    assert read_document(json.dumps(with_edits(**edits)).encode(), is_json=False) == document


def test_yaml_is_read_as_it_is_written_by_hand() -> None:
    text = b"""
cdiVersion: "0.6.0"
kind: vendor1.com/device
annotations:
  org.mobyproject.buildkit.device.autoallow: true
  number: 7
containerEdits: null
devices:
  - name: foo
    containerEdits: &edits
      deviceNodes: [{path: /dev/x, fileMode: 0660}]
  - name: bar
    containerEdits: *edits
"""

    document = read_document(text, is_json=False)

    assert document.annotations == {
        "org.mobyproject.buildkit.device.autoallow": "true", "number": "7",
    }  # fmt: skip
    assert [device.container_edits.device_nodes[0].file_mode for device in document.devices] == [0o660] * 2


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ([], "no specification"),
        (None, "no specification"),
        ({}, "cdiVersion"),
        (spec_of("0.9.0"), "cdiVersion '0.9.0' is not known"),
        (spec_of(kind="nothing"), "kind 'nothing' is not of the form vendor.com/class"),
        (spec_of(kind="1.com/c"), "vendor.com/class"),
        (spec_of(kind="v.com/c-"), "vendor.com/class"),
        (spec_of(kind="v.com/c\n"), "vendor.com/class"),
        (spec_of(devices=[]), "no devices"),
        (spec_of(device=[]), "unknown field `device`"),
        (spec_of(devices=[{"name": "a=b", "containerEdits": ENV}]), "device name 'a=b'"),
        (spec_of(devices=[{"name": "d", "containerEdits": ENV}] * 2), "device d is there twice"),
        (spec_of(devices=[{"name": "d"}]), "device d changes nothing"),
        (with_edits(env=["=1"]), "device d: variable '=1'"),
        (spec_of(containerEdits={"env": ["A"]}), "variable 'A' is not"),
        (with_edits(deviceNodes=[{"path": ""}]), "no path"),
        (with_edits(deviceNodes=[{"path": "/d", "type": "x"}]), "/d: type 'x'"),
        (with_edits(deviceNodes=[{"path": "/d", "permissions": "rx"}]), "/d: permissions 'rx'"),
        (with_edits(deviceNodes=[{"path": "/d", "uid": -1}]), "uid -1"),
        (with_edits(deviceNodes=[{"path": "/d", "major": "1"}]), "major"),
        (with_edits(deviceNodes=[{"path": "/d", "mayor": 1}]), "unknown field `mayor`"),
        (with_edits(hooks=[{"hookName": "later", "path": "/h"}]), "hook 'later'"),
        (with_edits(hooks=[{"hookName": "prestart", "path": ""}]), "hook prestart has no path"),
        (with_edits(mounts=[{"hostPath": "", "containerPath": "/a"}]), "a mount needs"),
        (with_edits(netDevices=[{"hostInterfaceName": "", "name": "a"}]), "network device"),
        (with_edits(intelRdt={"closID": "a/b"}), "closID 'a/b'"),
        (with_edits(additionalGids=[2**32]), "additionalGids 4294967296"),
    ],
)
def test_what_is_no_specification_is_told(plain: object, said: str) -> None:
    with pytest.raises(CdiError) as caught:
        read(plain)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_json", "said"),
    [
        (b"{", True, "no JSON"),
        (b"[" * 100_000, True, "no JSON"),
        (b'{"kind": "a", "kind": "b"}', True, "kind is there twice"),
        (b"kind: a\nkind: b\n", False, "kind is there twice (line 1)"),
        (b"a: [", False, "no YAML"),
        (b"a: !!python/object/apply:os.getcwd []", False, "no YAML"),
        (b"? {a: 1}\n: 2", False, "no YAML"),
        (b"\xff\xfe\x00", False, "no YAML"),
        (b"a: 1\n---\nb: 2", False, "no YAML"),
        (b"", False, "no specification"),
    ],
)
def test_what_is_no_text_of_its_kind_is_told(text: bytes, is_json: bool, said: str) -> None:
    with pytest.raises(CdiError) as caught:
        read_document(text, is_json=is_json)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("plain", "needed"),
    [
        (spec_of(), "0.3.0"),
        (with_edits(mounts=[{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]), "0.4.0"),
        (with_edits(deviceNodes=[{"path": "/a", "hostPath": "/b"}]), "0.5.0"),
        (spec_of(devices=[{"name": "0", "containerEdits": ENV}]), "0.5.0"),
        (spec_of(annotations={"a": "b"}), "0.6.0"),
        (spec_of(kind="v.com/a.b"), "0.6.0"),
        (with_edits(additionalGids=[1]), "0.7.0"),
        (with_edits(intelRdt={}), "0.7.0"),
        (with_edits(netDevices=[{"hostInterfaceName": "a", "name": "b"}]), "1.1.0"),
        (with_edits(intelRdt={"enableMonitoring": True}), "1.1.0"),
    ],
)
def test_what_is_used_needs_its_version(plain: dict[str, Any], needed: str) -> None:
    versions = ("0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
    older = [version for version in versions if version < needed]

    for version in older:
        with pytest.raises(CdiError, match=rf"too old: .* needs {needed}"):
            read({**plain, "cdiVersion": version})
    assert read({**plain, "cdiVersion": needed}).cdi_version == needed
