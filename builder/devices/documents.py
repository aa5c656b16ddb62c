"""One CDI specification: the text of a file, read strictly, as frozen values. Does no I/O.

What is checked is what the specification of CDI and its own reader check: names, the version with what may be
used in it, and every edit. A field that nobody knows is an error, and so is one that is there twice. YAML is
loaded only when a file is met that is written in it.
See https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from builder.devices.errors import CdiError
from builder.devices.versions import check_version

VENDOR_OR_CLASS = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?", re.ASCII)
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
NODE_TYPES = ("", "b", "c", "u", "p")
MAX_ID = 2**32 - 1


class _Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What all parts of a specification have."""


class DeviceNode(_Document, frozen=True):
    """A node to make at `path`. What is not said is as `host_path` (else `path`) is on the machine."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class Mount(_Document, frozen=True):
    """A mount; options as in the OCI runtime-spec."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


class Hook(_Document, frozen=True):
    """A program to run at a moment of a container's life."""

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class IntelRdt(_Document, frozen=True):
    """Settings of the processor's resource director."""

    clos_id: str = msgspec.field(default="", name="closID")
    l3_cache_schema: str = msgspec.field(default="", name="l3CacheSchema")
    mem_bw_schema: str = msgspec.field(default="", name="memBwSchema")
    schemata: tuple[str, ...] | None = None
    enable_monitoring: bool = False


class NetDevice(_Document, frozen=True):
    """A network interface to move into the container."""

    host_interface_name: str
    name: str


class Edits(_Document, frozen=True):
    """What a device changes in a container."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    hooks: tuple[Hook, ...] = ()
    mounts: tuple[Mount, ...] = ()
    intel_rdt: IntelRdt | None = None
    additional_gids: tuple[int, ...] = ()


class DeviceEntry(_Document, frozen=True):
    """One device of a specification."""

    name: str
    annotations: dict[str, str] = {}
    container_edits: Edits = Edits()


class Document(_Document, frozen=True):
    """A specification. Its own edits are for all its devices, and come before theirs."""

    cdi_version: str
    kind: str
    annotations: dict[str, str] = {}
    devices: tuple[DeviceEntry, ...] = ()
    container_edits: Edits = Edits()


def read_document(text: bytes, *, is_json: bool) -> Document:
    """The specification that a text holds. Raises CdiError."""
    plain = _without_nothing(_read_json(text) if is_json else _read_yaml(text))
    if not isinstance(plain, dict):
        raise CdiError("it holds no specification")
    try:
        document = msgspec.convert(_with_texts(plain), Document)
    except msgspec.ValidationError as error:
        raise CdiError(_lowered(str(error))) from error
    check_version(document.cdi_version, plain)
    _check(document)
    return document


def _read_json(text: bytes) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CdiError(f"it is no JSON: {_lowered(str(error))}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise CdiError(f"{next(n for n in names if names.count(n) > 1)} is there twice")
    return found


def _read_yaml(text: bytes) -> object:
    from builder.devices.yamls import load

    return load(text)


def _without_nothing(value: object) -> object:
    """The value without fields that are null, which are as if they were not there."""
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nothing(item) for item in value]
    return value


def _with_texts(plain: dict[Any, Any]) -> dict[Any, Any]:
    """The same with annotations and version as texts, which YAML may have taken for something else."""
    found = dict(plain)
    if isinstance(version := found.get("cdiVersion"), int | float):
        found["cdiVersion"] = str(version)
    if isinstance(notes := found.get("annotations"), dict):
        found["annotations"] = _texts(notes)
    if isinstance(devices := found.get("devices"), list):
        found["devices"] = [_with_texts(item) if isinstance(item, dict) else item for item in devices]
    return found


def _texts(notes: Mapping[object, object]) -> dict[object, object]:
    return {key: _text(value) if isinstance(value, int | float) else value for key, value in notes.items()}


def _text(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


# ---- what the types do not tell ----


def _check(document: Document) -> None:
    vendor, _, kind = document.kind.partition("/")
    if not VENDOR_OR_CLASS.fullmatch(vendor) or not VENDOR_OR_CLASS.fullmatch(kind):
        raise CdiError(f"kind {document.kind!r} is not of the form vendor.com/class")
    _check_edits(document.container_edits, "")
    if not document.devices:
        raise CdiError("it has no devices")
    seen: set[str] = set()
    for device in document.devices:
        if not NAME.fullmatch(device.name):
            raise CdiError(f"device name {device.name!r} is not of letters, digits and any of _-.: between")
        if device.name in seen:
            raise CdiError(f"device {device.name} is there twice")
        seen.add(device.name)
        if device.container_edits == Edits():
            raise CdiError(f"device {device.name} changes nothing: it has no containerEdits")
        _check_edits(device.container_edits, f"device {device.name}: ")


def _check_edits(edits: Edits, whose: str) -> None:
    for entry in edits.env:
        _check_variable(entry, whose)
    for node in edits.device_nodes:
        _check_node(node, whose)
    for mount in edits.mounts:
        if not mount.host_path or not mount.container_path:
            raise CdiError(f"{whose}a mount needs a hostPath and a containerPath")
    for hook in edits.hooks:
        if hook.hook_name not in HOOKS:
            raise CdiError(f"{whose}hook {hook.hook_name!r} is not known: it is one of {', '.join(HOOKS)}")
        if not hook.path:
            raise CdiError(f"{whose}hook {hook.hook_name} has no path")
        for entry in hook.env:
            _check_variable(entry, whose)
    for interface in edits.net_devices:
        if not interface.host_interface_name or not interface.name:
            raise CdiError(f"{whose}a network device needs a hostInterfaceName and a name")
    if edits.intel_rdt is not None:
        _check_closid(edits.intel_rdt.clos_id, whose)
    for gid in edits.additional_gids:
        _check_number(gid, "additionalGids", whose)


def _check_node(node: DeviceNode, whose: str) -> None:
    if not node.path:
        raise CdiError(f"{whose}a device node has no path")
    if node.type not in NODE_TYPES:
        raise CdiError(f"{whose}device node {node.path}: type {node.type!r} is none of b, c, u and p")
    if node.permissions.strip("rwm"):
        wrong = f"permissions {node.permissions!r} are not of r, w and m"
        raise CdiError(f"{whose}device node {node.path}: {wrong}")
    for what, number in (("uid", node.uid), ("gid", node.gid), ("fileMode", node.file_mode)):
        _check_number(number or 0, f"device node {node.path}: {what}", whose)
    for what, number in (("major", node.major), ("minor", node.minor)):
        _check_number(number, f"device node {node.path}: {what}", whose)


def _check_number(number: int, what: str, whose: str) -> None:
    if not 0 <= number <= MAX_ID:
        raise CdiError(f"{whose}{what} {number} is no number from 0 to {MAX_ID}")


def _check_variable(entry: str, whose: str) -> None:
    if entry.find("=") <= 0 or "\0" in entry:
        raise CdiError(f"{whose}variable {entry!r} is not of the form NAME=VALUE")


def _check_closid(name: str, whose: str) -> None:
    if name != "/" and (len(name) >= 4096 or name in (".", "..") or "/" in name or "\n" in name):
        raise CdiError(f"{whose}closID {name!r} is no file name")
