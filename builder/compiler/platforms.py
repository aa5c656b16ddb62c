"""Platforms as a Dockerfile names them (FROM --platform) and is told of them (TARGETPLATFORM). Pure."""

from __future__ import annotations

from collections.abc import Mapping

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


def shown(own: Platform, variables: Mapping[str, str]) -> str:
    """A stage's platform as labels have it where a build has several: `linux/amd64`, and `linux/amd64->arm64`
    where its variables speak of another target than it runs on, as BuildKit tells cross builds."""
    target = _told(own, variables)
    if target is None or (target.os, target.architecture) == (own.os, own.architecture):
        return full_name(own)
    if target.os != own.os:
        return f"{full_name(own)}->{full_name(target)}"
    return f"{full_name(own)}->{'/'.join(part for part in (target.architecture, target.variant) if part)}"


def _told(own: Platform, variables: Mapping[str, str]) -> Platform | None:
    """The target platform that a stage's variables tell of, wholly or in part; None where they do not."""
    text = variables.get("TARGETPLATFORM")
    if text is None:
        names = [variables.get(f"TARGET{name}") for name in ("OS", "ARCH", "VARIANT")]
        if not any(names):
            return None
        text = "/".join([names[0] or own.os, names[1] or own.architecture, *filter(None, names[2:])])
    try:
        return parse_platform(text, own)
    except ValueError:  # a variable that the Dockerfile has given a value of its own
        return None
