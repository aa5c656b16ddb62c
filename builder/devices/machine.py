"""The machine's devices, as one build is given them.

The specifications are read when a step asks for a device, and not before.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from builder.compiler.entitlements import DeviceGrants
from builder.ops.exec import Device

if TYPE_CHECKING:
    from builder.devices.registry import Registry
    from builder.runtime.devicenodes import DeviceNode
    from builder.runtime.spec import HostMount


class DeviceEdits(msgspec.Struct):
    """All changes of a step's devices, in order; a later variable or node of a name replaces the former."""

    env: dict[str, str] = msgspec.field(default_factory=dict)
    nodes: dict[str, DeviceNode] = msgspec.field(default_factory=dict)
    mounts: dict[str, HostMount] = msgspec.field(default_factory=dict)
    groups: list[int] = msgspec.field(default_factory=list)


class MachineDevices:
    """folders: where specifications lie, the last with the last word; () stands for those of BuildKit."""

    def __init__(self, folders: Sequence[str], grants: DeviceGrants) -> None:
        self._folders = folders
        self._grants = grants

    @functools.cached_property
    def registry(self) -> Registry:
        """What the specifications tell."""
        from builder.devices.registry import FOLDERS, read_registry

        return read_registry(self._folders or FOLDERS)

    def check(self, asked: Sequence[Device]) -> list[str]:
        """What to tell of a step before anything runs: the devices that it has to do without.

        Raises BuildError where one may not be had, or is missing. Who grants every device has a step that
        is in the cache for a machine without them.
        """
        from builder.devices.grants import granted_devices, missing_devices

        if not self._grants.every:
            granted_devices(asked, self.registry, self._grants)
        faults = "".join(f"; not read: {fault}" for fault in self.registry.faults)
        return [
            f"device {name} is not there, and not required: the step runs without it{faults}"
            for name in missing_devices(asked, self.registry)
        ]

    def edits(self, asked: Sequence[Device], *, uid: int, gid: int) -> DeviceEdits:
        """What the devices change in a sandbox of that user. Raises BuildError. Blocking."""
        if not asked:
            return DeviceEdits()
        from builder.devices.edits import edits_of
        from builder.devices.grants import granted_devices

        return edits_of(granted_devices(asked, self.registry, self._grants), uid=uid, gid=gid)
