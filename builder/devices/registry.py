"""The devices that this machine tells of: all CDI specifications in the folders for them, by qualified names.

A device is asked for by `vendor.com/class=name`, by `vendor.com/class` (the first of them), by
`vendor.com/class=*` (all of them), or by what annotations call its class. A folder that comes later wins over
those before; two specifications of one folder that both have a device take it from each other. A file
that is no specification hides no other: it is told when something is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from builder.devices.documents import DeviceEntry, Document, read_document
from builder.devices.errors import CdiError
from builder.dockerfile.mounts import TRUE
from builder.errors import reason_of

FOLDERS = ("/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi")  # the last one has the last word
ENDINGS = (".json", ".yaml")
CLASS = "org.mobyproject.buildkit.device.class"
AUTO_ALLOW = "org.mobyproject.buildkit.device.autoallow"
MAX_FILE = 16 << 20  # bytes


class Found(msgspec.Struct, frozen=True):
    """A device, and where it is from. `path`: of the file; `priority`: which folder that lies in."""

    name: str
    path: str
    priority: int
    document: Document
    device: DeviceEntry

    @property
    def annotations(self) -> dict[str, str]:
        """Those of the specification, and over them the device's own."""
        return {**self.document.annotations, **self.device.annotations}

    @property
    def is_allowed(self) -> bool:
        """Whether it is for everybody, as its annotations say."""
        return self.annotations.get(AUTO_ALLOW) in TRUE


class Registry(msgspec.Struct):
    """What is there. faults: what is wrong with each file that could not be read, or contradicts another."""

    devices: dict[str, Found] = msgspec.field(default_factory=dict)
    faults: list[str] = msgspec.field(default_factory=list)

    def find(self, asked: str) -> list[Found]:
        """The devices that go by a name, sorted by their own names; none where nothing does."""
        kind, _, name = asked.partition("=")
        found: list[Found] = []
        if kind.partition("/")[2] and not kind.startswith("/"):
            of_kind = [device for device in self.devices.values() if device.name.startswith(f"{kind}=")]
            if name == "*":
                found = of_kind
            elif not name:
                found = of_kind[:1]
            else:
                found = [device for device in of_kind if device.name == asked]
        return found or [d for d in self.devices.values() if d.annotations.get(CLASS) == asked]


def read_registry(folders: Sequence[str]) -> Registry:
    """Read all specifications; a folder that is not there has none. Blocking."""
    registry = Registry()
    for priority, folder in enumerate(folders):
        clashing: set[str] = set()
        for path in _files_of(folder, registry.faults):
            for device in _read(path, priority, registry.faults):
                other = registry.devices.get(device.name)
                if other is not None and other.priority == priority:
                    clashing.add(device.name)
                    registry.faults.append(f"{path}: {device.name} is in {other.path} too, so neither counts")
                else:
                    registry.devices[device.name] = device
        for name in clashing:
            del registry.devices[name]
    registry.devices = dict(sorted(registry.devices.items()))
    return registry


def _files_of(folder: str, faults: list[str]) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(f"{folder}: {reason_of(error)}")
        return []
    paths = [os.path.join(folder, name) for name in names if name.endswith(ENDINGS)]
    return [path for path in paths if os.path.islink(path) or not os.path.isdir(path)]


def _read(path: str, priority: int, faults: list[str]) -> Iterator[Found]:
    """The devices of a file; what is wrong with it goes to `faults`."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise CdiError(f"it has more than {MAX_FILE >> 20} MiB")
        document = read_document(text, is_json=path.endswith(".json"))
    except (OSError, CdiError) as error:
        faults.append(f"{path}: {reason_of(error) if isinstance(error, OSError) else error}")
        return
    for device in document.devices:
        yield Found(f"{document.kind}={device.name}", path, priority, document, device)
