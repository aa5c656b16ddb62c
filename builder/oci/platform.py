"""Choosing among the manifests of an index, as containerd does: the platform, else one it can run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from builder.oci.spec import Descriptor, Platform

_ARM = ("v8", "v7", "v6", "v5")
_SYNONYMS = {
    ("amd64", "v1"): "", ("arm64", "v8"): "", ("arm64", "8"): "", ("arm", ""): "v7",
    ("arm", "5"): "v5", ("arm", "6"): "v6", ("arm", "7"): "v7", ("arm", "8"): "v8",
}  # fmt: skip


def canonical(platform: Platform) -> tuple[str, str, str]:
    """(os, architecture, variant) in the one spelling that is compared."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386"}.get(
        platform.architecture.lower(), platform.architecture.lower()
    )
    variant = platform.variant.lower()
    return platform.os.lower(), architecture, _SYNONYMS.get((architecture, variant), variant)


def runnable(platform: Platform) -> list[tuple[str, str, str]]:
    """What a machine of this platform runs, best first: itself, older variants, its 32-bit forebears."""
    system, architecture, variant = canonical(platform)
    if architecture == "amd64":
        level = int(variant[1:]) if variant[1:].isdecimal() and variant.isascii() else 1
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
