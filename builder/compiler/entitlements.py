"""What `--allow` grants, read from its words. Pure.

    network.host, security.insecure     as they are
    device                              every device
    device=NAME                         one, or a kind or a class of them
    device=NAME,alias=OTHER             NAME, for steps that ask for OTHER

As buildx has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from builder.dockerfile.mounts import MountError, split_fields
from builder.errors import UsageError

DEVICE = "device"


class DeviceGrants(msgspec.Struct, frozen=True):
    """The devices that are granted: all of them, those of these names; aliases: name asked for -> device."""

    every: bool = False
    names: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}


def is_device(entitlement: str) -> bool:
    """Whether the entitlement is for devices."""
    return entitlement.partition("=")[0] == DEVICE


def device_grants(entitlements: Iterable[str]) -> DeviceGrants:
    """What all entitlements for devices together grant. Raises UsageError for one that cannot be read."""
    every, names, aliases = False, [], {}
    for text in sorted(entitlements):
        if not is_device(text):
            continue
        name, alias = _read(text)
        every = every or not name
        if alias:
            aliases[alias] = name
        elif name:
            names.append(name)
    return DeviceGrants(every, tuple(names), aliases)


def _read(text: str) -> tuple[str, str]:
    """(name, alias) of `device[=NAME[,alias=OTHER]]`; no name is every device."""
    value = text.partition("=")[2]
    if not value:
        return "", ""
    try:
        name, *options = split_fields(value)
    except MountError as error:
        raise UsageError(f"--allow {text}: quotes do not pair") from error
    alias = ""
    for option in options:
        key, _, alias = option.partition("=")
        if key != "alias" or not alias:
            raise UsageError(
                f"--allow {text}: {option!r} is not known", hint="write --allow device=NAME,alias=OTHER"
            )
    if not name:
        raise UsageError(f"--allow {text}: the device has no name", hint="--allow device grants every device")
    return name, alias
