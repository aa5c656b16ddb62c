"""`RUN --device=…`: comma-separated options to a typed value.

The text is one CSV record, as that of `--mount`. A device goes by any name that CDI or its annotations give
it; what is called so on a machine is not known here. Variables in it are not expanded.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from builder.dockerfile.mounts import FALSE, TRUE, MountError, split_fields


class DeviceError(ValueError):
    """What is wrong with the value of `--device`, as it can stand behind that."""


class DeviceOptions(msgspec.Struct, frozen=True):
    """A device as the Dockerfile has it: `vendor.com/class=name`, `vendor.com/class`, or a class."""

    name: str = ""
    required: bool = False


def parse_device(text: str) -> DeviceOptions:
    """The device that the text tells. Raises DeviceError."""
    if not text:
        raise DeviceError("needs a value")
    device = DeviceOptions()
    try:
        for field in split_fields(text):
            device = _set(device, field)
    except MountError as error:
        raise DeviceError(f"has quotes that do not pair: {text!r}") from error
    return device


def _set(device: DeviceOptions, field: str) -> DeviceOptions:
    """The device with one more field: the first that is no option is the name, its own `=` and all."""
    key, separator, value = field.partition("=")
    key = key.lower()
    if key == "required":
        return replace(device, required=_boolean(value) if separator else True)
    if key == "name" and separator:
        if device.name:
            raise DeviceError(f"names two devices: {device.name!r} and {value!r}")
        return replace(device, name=value)
    if not device.name:
        return replace(device, name=field)
    if not separator:
        raise DeviceError(f"names two devices: {device.name!r} and {field!r}")
    raise DeviceError(f"has no option {key!r}: it takes name and required")


def _boolean(value: str) -> bool:
    if value not in TRUE | FALSE:
        raise DeviceError(f"has required={value}, which is neither true nor false")
    return value in TRUE
