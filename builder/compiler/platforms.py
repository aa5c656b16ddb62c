"""Platforms as people write them: `os/architecture[/variant]`, `arm64`, `linux`.

Names are made the ones that images use, as containerd does (GOOS and GOARCH; x86_64 is amd64, arm
without a variant is v7). Pure: what is not said is taken from the platform that is handed in.
"""

from __future__ import annotations

import re

from builder.oci.spec import Platform

COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
SYSTEM = re.compile(r"([A-Za-z0-9_.-]+)(?:\(([A-Za-z0-9_.-]*)\))?")
SYSTEMS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux",
    "netbsd", "openbsd", "plan9", "solaris", "windows", "zos", "macos",
})  # fmt: skip
ARCHITECTURES = frozenset({
    "386", "amd64", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64",
    "mips64le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64",
    "wasm",
})  # fmt: skip


def parse_platform(text: str, machine: Platform) -> Platform:
    """The platform that `text` names. Raises ValueError with a message that names the text."""
    parts = text.split("/")
    system = SYSTEM.fullmatch(parts[0])
    if system is None or len(parts) > 3 or not all(COMPONENT.fullmatch(part) for part in parts[1:]):
        raise ValueError(f"platform {text!r} is not of the form os/architecture[/variant]")
    name, version = system[1].lower(), system[2] or ""
    if len(parts) == 1:
        return _lone(text, name, version, machine)
    variant = parts[2] if len(parts) == 3 else ""
    return normalise(Platform(parts[1], name, variant, version))


def _lone(text: str, name: str, version: str, machine: Platform) -> Platform:
    """A system alone, or an architecture alone."""
    if name in SYSTEMS:
        return normalise(Platform(machine.architecture, name, machine.variant, version))
    platform = normalise(Platform(name, machine.os))
    if platform.architecture not in ARCHITECTURES:
        raise ValueError(f"platform {text!r} is neither a known operating system nor a known architecture")
    return platform


def normalise(platform: Platform) -> Platform:
    """The same platform in the words that images use."""
    system = {"macos": "darwin"}.get(platform.os.lower(), platform.os.lower())
    architecture, variant = platform.architecture.lower(), platform.variant.lower()
    match architecture:
        case "i386":
            architecture, variant = "386", ""
        case "x86_64" | "x86-64" | "amd64":
            architecture, variant = "amd64", {"v1": ""}.get(variant, variant)
        case "aarch64" | "arm64":
            architecture = "arm64"
            variant = {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}.get(
                variant, variant
            )
        case "armhf":
            architecture, variant = "arm", "v7"
        case "armel":
            architecture, variant = "arm", "v6"
        case "arm":
            variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return Platform(architecture, system, variant, platform.os_version)


def full_name(platform: Platform) -> str:
    """The platform with its OS version, as TARGETPLATFORM has it: `windows(10.0.1)/amd64`."""
    system = f"{platform.os}({platform.os_version})" if platform.os_version else platform.os
    return "/".join(part for part in (system, platform.architecture, platform.variant) if part)
