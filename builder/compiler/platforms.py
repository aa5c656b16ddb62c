"""Platforms as a Dockerfile names them (FROM --platform) and is told of them (TARGETPLATFORM). Pure."""

from __future__ import annotations

from builder.oci.platform import canonical, parse
from builder.oci.spec import Platform


def parse_platform(text: str, machine: Platform) -> Platform:
    """The platform that `text` names; what is not said is that of `machine`.

    Raises ValueError with a message that names the text.
    """
    system, architecture, variant, version = parse(text, canonical(machine))
    return Platform(architecture, system, variant, version)


def normalise(platform: Platform) -> Platform:
    """The same platform in the words that images use."""
    system, architecture, variant = canonical(platform)
    return Platform(architecture, system, variant, platform.os_version)


def full_name(platform: Platform) -> str:
    """The platform with its OS version, as TARGETPLATFORM has it: `windows(10.0.1)/amd64`."""
    system = f"{platform.os}({platform.os_version})" if platform.os_version else platform.os
    return "/".join(part for part in (system, platform.architecture, platform.variant) if part)
