"""Which devices a step is given: those that it asks for, that are there, and that it may have.

A device may be had where `--allow device` grants it, by itself, with its kind or with all, or where its own
annotations do. What is not required and not there is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from builder.compiler.entitlements import DeviceGrants
from builder.devices.registry import Found, Registry
from builder.errors import BuildError
from builder.ops.exec import Device


def granted_devices(asked: Sequence[Device], registry: Registry, grants: DeviceGrants) -> list[Found]:
    """The devices for a step, each once. Raises BuildError where one is missing, or may not be had."""
    allowed = {} if grants.every else {d.name: d for name in grants.names for d in _find(name, registry)}
    found: dict[str, Found] = {}
    refused: list[str] = []
    for wanted in asked:
        for device in _find(wanted.name, registry, required=wanted.required):
            found[device.name] = device
            free = grants.every or wanted.granted or device.is_allowed or device.name in allowed
            if not free:
                refused.append(device.name)
    if refused:
        raise _refusal(list(dict.fromkeys(refused)))
    return list(found.values())


def missing_devices(asked: Sequence[Device], registry: Registry) -> list[str]:
    """The names of those that are not there and are not required."""
    return [device.name for device in asked if not device.required and not registry.find(device.name)]


def _find(name: str, registry: Registry, *, required: bool = True) -> list[Found]:
    found = registry.find(name)
    if not found and required:
        raise BuildError(
            f"device {name} is required, and no CDI specification tells of it",
            code="device-missing",
            hint=_nearest(name, registry),
            notes=tuple(f"not read: {fault}" for fault in registry.faults),
        )
    return found


def _nearest(name: str, registry: Registry) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, registry.devices, n=1)
    if near:
        return f"did you mean {near[0]}?"
    known = ", ".join(list(registry.devices)[:10])
    return f"there are {known}" if known else "specifications are looked for in the folders of --cdi-spec-dir"


def _refusal(names: list[str]) -> BuildError:
    devices = "device" if len(names) == 1 else "devices"
    return BuildError(
        f"{devices} {', '.join(names)} {'is' if len(names) == 1 else 'are'} asked for, and not allowed",
        code="not-entitled",
        hint=" ".join(f"--allow device={name}" for name in names) + " grants it, --allow device every device",
    )
