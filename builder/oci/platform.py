"""Platforms: the names people and images write, in the one spelling that is compared; and what fits what.

`os/architecture[/variant]`, `arm64`, `linux`: as containerd has it (GOOS and GOARCH; x86_64 is amd64, arm
without a variant is v7). Pure, and on the path of a fully cached build: tuples (os, architecture, variant).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.spec import Descriptor, Platform

    Names = tuple[str, str, str]

# What names are made of.
MARKS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
SYSTEMS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux",
    "netbsd", "openbsd", "plan9", "solaris", "windows", "zos", "macos",
})  # fmt: skip
ARCHITECTURES = frozenset({
    "386", "amd64", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64",
    "mips64le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64",
    "wasm",
})  # fmt: skip
_ARM = ("v8", "v7", "v6", "v5")


def parse(text: str, machine: Names) -> tuple[str, str, str, str]:
    """The platform that `text` names, and the version of its system: `windows(10.0.1)/amd64` has one.

    What is not said is taken from `machine`. Raises ValueError with a message that names the text.
    """
    parts = text.split("/")
    name, mark, rest = parts[0].partition("(")
    version = rest.removesuffix(")")
    is_closed = rest == (f"{version})" if mark else "")
    named = [name, *parts[1:]]
    if not is_closed or len(parts) > 3 or not all(named) or not MARKS.issuperset("".join([*named, version])):
        raise ValueError(f"platform {text!r} is not of the form os/architecture[/variant]")
    name = name.lower()
    if len(parts) == 1:
        return _parse_one(text, name, version, machine)
    return (*normalise(name, parts[1], parts[2] if len(parts) == 3 else ""), version)


def _parse_one(text: str, name: str, version: str, machine: Names) -> tuple[str, str, str, str]:
    """A system alone, or an architecture alone."""
    if name in SYSTEMS:
        return (*normalise(name, *machine[1:]), version)
    names = normalise(machine[0], name, "")
    if names[1] not in ARCHITECTURES:
        raise ValueError(f"platform {text!r} is neither a known operating system nor a known architecture")
    return (*names, "")


def normalise(system: str, architecture: str, variant: str) -> Names:
    """(os, architecture, variant) in the words that images use."""
    system = {"macos": "darwin"}.get(system.lower(), system.lower())
    architecture, variant = architecture.lower(), variant.lower()
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
    return system, architecture, variant


def canonical(platform: Platform) -> Names:
    """The names of a platform, in the one spelling that is compared."""
    return normalise(platform.os, platform.architecture, platform.variant)


def runnable(platform: Platform) -> list[Names]:
    """What a machine of this platform runs, best first: itself, older variants, its 32-bit forebears."""
    system, architecture, variant = canonical(platform)
    if architecture == "amd64":
        level = int(variant[1:9]) if variant[1:].isdecimal() and variant.isascii() else 1
        own = [("amd64", f"v{n}" if n > 1 else "") for n in range(min(level, 9), 0, -1)]
        found = [*own, ("386", "")]
    elif architecture == "arm64":
        found = [("arm64", variant)] if not variant else [("arm64", variant), ("arm64", "")]
        found += [("arm", v) for v in _ARM]
    elif architecture == "arm" and variant in _ARM:
        found = [("arm", v) for v in _ARM[_ARM.index(variant) :]]
    else:
        found = [(architecture, variant)]
    return [(system, arch, var) for arch, var in found]


def fits(image: Platform, wanted: Platform) -> bool:
    """Whether an image of one platform is what another asks for."""
    return canonical(image) in runnable(wanted)


def choose(manifests: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The manifest that fits best, the first of equals; None if none does."""
    order = {platform: rank for rank, platform in enumerate(runnable(wanted))}
    best: tuple[int, Descriptor] | None = None
    for descriptor in manifests:
        if descriptor.platform is None:
            continue
        rank = order.get(canonical(descriptor.platform))
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, descriptor)
    return best[1] if best else None
