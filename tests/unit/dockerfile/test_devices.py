"""RUN --device: CSV to typed values."""

from __future__ import annotations

import pytest

from builder.dockerfile.devices import DeviceError, DeviceOptions, parse_device
from builder.dockerfile.parser import parse
from builder.errors import DockerfileError
from builder.text import SourceText


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("gpu", DeviceOptions("gpu")),
        ("v.com/c=foo", DeviceOptions("v.com/c=foo")),
        ("v.com/c=*,required", DeviceOptions("v.com/c=*", True)),
        ("required,v.com/c", DeviceOptions("v.com/c", True)),
        ("NAME=v.com/c=foo,Required=TRUE", DeviceOptions("v.com/c=foo", True)),
        ("name=a,required=1,required=f", DeviceOptions("a")),
        ('"a,b",required', DeviceOptions("a,b", True)),
        ("$X", DeviceOptions("$X")),
        ("name", DeviceOptions("name")),
        ("required", DeviceOptions("", True)),
    ],
)
def test_devices_are_read(text: str, device: DeviceOptions) -> None:
    assert parse_device(text) == device


@pytest.mark.parametrize(
    "text", ["", "a,b", "a,b=c", "a,name=b", "name=a,name=b", "a,required=maybe", "a,required=", '"a']
)
def test_what_is_no_device_is_an_error_in_every_stage(text: str) -> None:
    with pytest.raises(DeviceError):
        parse_device(text)
    written = text.replace('"', '\\"')
    with pytest.raises(DockerfileError, match="--device"):
        parse(SourceText("Dockerfile", f"FROM a\nRUN --device={written} true\nFROM b\n"))
