"""Devices in a spec: the nodes that a command finds, and what a device controller would let it open.

`init` has no controller: with "nodev" no device can be opened but the six of /dev and these nodes, each of
which it mounts by itself. The rules are for other runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class DeviceNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A device that the command finds at `path`, and may open. `type`: c (or u), b, or p for a fifo.

    host_path: where the machine has it, if not at `path`; beyond the runtime-spec, for user namespaces, in
    which no device can be made: there the machine's is shown, with the owner and mode that it has.
    """

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0
    host_path: str = ""


class DeviceRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A rule of the device controller; without numbers it is for all devices of its type."""

    allow: bool
    access: str
    type: str = ""
    major: int | None = None
    minor: int | None = None


def insecure_devices(loops: int) -> tuple[DeviceNode, ...]:
    """What BuildKit gives an insecure step besides (which may open any device anyhow), and so many loops."""
    numbers = {"kmsg": (1, 11), "cuse": (10, 203), "fuse": (10, 229), "kvm": (10, 232), "net/tun": (10, 200)}
    numbers["loop-control"] = 10, 237
    nodes = [DeviceNode(path=f"/dev/{name}", type="c", major=a, minor=b) for name, (a, b) in numbers.items()]
    return (*nodes, *(DeviceNode(path=f"/dev/loop{n}", type="b", major=7, minor=n) for n in range(loops)))


def device_rules(devices: Sequence[DeviceNode]) -> tuple[DeviceRule, ...]:
    """Nothing may be opened but these devices, and any node be made."""
    rules = [
        DeviceRule(allow=False, access="rwm"),
        DeviceRule(allow=True, access="m", type="c"),
        DeviceRule(allow=True, access="m", type="b"),
    ]
    for node in devices:
        if node.type != "p":
            kind = "b" if node.type == "b" else "c"
            rules.append(DeviceRule(allow=True, access="rwm", type=kind, major=node.major, minor=node.minor))
    return tuple(rules)
