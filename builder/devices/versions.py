"""The versions of the CDI specification, and what each of them brought. Pure.

A specification must say at least the version of what it uses; it is looked at as plain data, so that the
presence of a field counts and not its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from builder.devices.errors import CdiError

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
EARLIEST = "0.3.0"

Plain = Mapping[str, Any]


def check_version(version: str, document: Plain) -> None:
    """Raise CdiError where the version is none, or older than what the specification uses."""
    said = version.removeprefix("v")
    if said not in VERSIONS:
        raise CdiError(f"cdiVersion {version!r} is not known: the versions are {', '.join(VERSIONS)}")
    needed, what = EARLIEST, "anything"
    for since, uses, feature in BROUGHT:
        if uses(document):
            needed, what = since, feature
    if VERSIONS.index(said) < VERSIONS.index(needed):
        raise CdiError(f"cdiVersion {version} is too old: {what} needs {needed}")


def _all_edits(document: Plain) -> Iterator[Plain]:
    for holder in (document, *document.get("devices", ())):
        yield holder.get("containerEdits", {})


def _has_mount_type(document: Plain) -> bool:
    return any(mount.get("type") for edits in _all_edits(document) for mount in edits.get("mounts", ()))


def _has_host_path(document: Plain) -> bool:
    digit = any(str(device.get("name", ""))[:1].isdigit() for device in document.get("devices", ()))
    return digit or any(
        node.get("hostPath") for edits in _all_edits(document) for node in edits.get("deviceNodes", ())
    )


def _has_annotations(document: Plain) -> bool:
    holders = (document, *document.get("devices", ()))
    return any(h.get("annotations") for h in holders) or "." in str(document["kind"]).partition("/")[2]


def _has_groups(document: Plain) -> bool:
    return any("intelRdt" in edits or edits.get("additionalGids") for edits in _all_edits(document))


def _has_net_devices(document: Plain) -> bool:
    settings = [edits.get("intelRdt", {}) for edits in _all_edits(document)]
    monitored = any("schemata" in setting or setting.get("enableMonitoring") for setting in settings)
    return monitored or any(edits.get("netDevices") for edits in _all_edits(document))


BROUGHT: tuple[tuple[str, Callable[[Plain], bool], str], ...] = (
    ("0.4.0", _has_mount_type, "the type of a mount"),
    ("0.5.0", _has_host_path, "a hostPath of a device node, or a name that begins with a digit,"),
    ("0.6.0", _has_annotations, "an annotation, or a dot in the class,"),
    ("0.7.0", _has_groups, "intelRdt or additionalGids"),
    ("1.1.0", _has_net_devices, "netDevices, or schemata and enableMonitoring of intelRdt,"),
)
