"""What devices change in a sandbox: variables, nodes, mounts and groups, in the runtime's words.

A node's numbers are looked up on the machine where its specification does not tell them. What a sandbox
cannot do as told is an error, and never left out: hooks, network interfaces, processor settings, and
permissions that only a device controller could hold a step to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from builder.devices.documents import DeviceNode, Edits, Mount
from builder.devices.machine import DeviceEdits
from builder.devices.registry import Found
from builder.errors import BuildError, reason_of
from builder.runtime.devicenodes import DeviceNode as Node
from builder.runtime.spec import HostMount

KINDS = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
BINDS = ("", "bind", "rbind", "none")


def edits_of(devices: Sequence[Found], *, uid: int = 0, gid: int = 0) -> DeviceEdits:
    """The changes of these devices, for a step of that user, to whom a node belongs that is nobody's.

    A specification's own come before those of its first device. Raises BuildError where one cannot be made.
    """
    found = DeviceEdits()
    opened: set[str] = set()
    for device in devices:
        whose = f"device {device.name} ({device.path})"
        if device.path not in opened:
            opened.add(device.path)
            _add(found, device.document.container_edits, whose, uid, gid)
        _add(found, device.device.container_edits, whose, uid, gid)
    return found


def _add(found: DeviceEdits, edits: Edits, whose: str, uid: int, gid: int) -> None:
    _refuse(edits, whose)
    for entry in edits.env:
        name, _, value = entry.partition("=")
        found.env[name] = value
    for node in edits.device_nodes:
        found.nodes[node.path] = _node(node, whose, uid, gid)
    for mount in edits.mounts:
        found.mounts[mount.container_path] = _mount(mount, whose)
    found.groups += [gid for gid in edits.additional_gids if gid]


def _refuse(edits: Edits, whose: str) -> None:
    for hook in edits.hooks:
        raise _impossible(whose, f"it has a {hook.hook_name} hook ({hook.path}), and no hooks are run")
    if edits.net_devices:
        raise _impossible(whose, "it moves a network interface, and a step's network is the machine's")
    if edits.intel_rdt is not None:
        raise _impossible(whose, "it has intelRdt settings, and the processor is left as it is")


def _node(node: DeviceNode, whose: str, uid: int, gid: int) -> Node:
    if not node.path.startswith("/"):
        raise _impossible(whose, f"its node {node.path} has no absolute path")
    if node.permissions and not {"r", "w"} <= set(node.permissions):
        raise _impossible(
            whose, f"its node {node.path} is for {node.permissions!r} alone, and a step can be given rw only"
        )
    kind, numbers, mode = _numbers(node, whose)
    return Node(
        path=node.path,
        type=kind,
        major=numbers[0],
        minor=numbers[1],
        file_mode=mode,
        uid=uid if node.uid is None else node.uid,
        gid=gid if node.gid is None else node.gid,
        host_path="" if node.host_path == node.path else node.host_path,
    )


def _numbers(node: DeviceNode, whose: str) -> tuple[str, tuple[int, int], int]:
    """Type, (major, minor) and mode of a node: as told, else as the machine has them."""
    told = bool(node.type) and (node.major != 0 or node.type == "p")
    host = node.host_path or node.path
    try:
        status = os.lstat(host)
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "")
        mode = stat.S_IMODE(status.st_mode)
    except OSError as error:
        if not told:
            raise _impossible(whose, f"{host} cannot be looked at: {reason_of(error)}") from error
        return node.type, (node.major, node.minor), node.file_mode if node.file_mode is not None else 0o666
    mode = mode if node.file_mode is None else stat.S_IMODE(node.file_mode)
    if told:
        return node.type, (node.major, node.minor), mode
    if not kind:
        raise _impossible(whose, f"{host} is no device")
    if node.type not in ("", kind):
        raise _impossible(whose, f"{host} is of type {kind}, not {node.type}")
    if kind == "p":
        return kind, (0, 0), mode
    if node.major:
        return kind, (node.major, node.minor), mode
    return kind, (os.major(status.st_rdev), os.minor(status.st_rdev)), mode


def _mount(mount: Mount, whose: str) -> HostMount:
    target = os.path.normpath(mount.container_path)
    if not target.startswith("/") or target == "/":
        raise _impossible(whose, f"its mount on {mount.container_path} is on no absolute path below /")
    bind = mount.type in BINDS or "bind" in mount.options or "rbind" in mount.options
    if not bind and mount.type != "tmpfs":
        raise _impossible(whose, f"its mount on {target} is of type {mount.type}, which is not known")
    if bind and not os.path.exists(mount.host_path):
        raise _impossible(whose, f"{mount.host_path}, which it mounts on {target}, is not there")
    return HostMount(
        target=target, kind="bind" if bind else "tmpfs", source=mount.host_path, options=mount.options
    )


def _impossible(whose: str, problem: str) -> BuildError:
    return BuildError(f"{whose} cannot be given to a step: {problem}", code="device")
