"""Package URLs (the purl specification): how packages and images are named in attestations. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from builder.oci.reference import Reference

UNRESERVED = ".-_~"


def package_url(
    kind: str,
    name: str,
    version: str = "",
    *,
    namespace: str = "",
    qualifiers: Mapping[str, str] | None = None,
    subpath: str = "",
) -> str:
    """`pkg:KIND/NAMESPACE/NAME@VERSION?KEY=VALUE`, each part percent-encoded, empty ones left out."""
    parts = [part for part in namespace.split("/") if part]
    text = "pkg:" + "/".join(_encoded(part) for part in (kind, *parts, name))
    if version:
        text += f"@{_encoded(version, ':')}"
    told = sorted((key, value) for key, value in (qualifiers or {}).items() if value)
    if told:
        text += "?" + "&".join(f"{key}={_encoded(value, ':')}" for key, value in told)
    if subpath:
        text += "#" + "/".join(_encoded(part) for part in subpath.split("/") if part not in ("", ".", ".."))
    return text


def image_url(reference: Reference, platform: str = "") -> str:
    """An image in a registry, as BuildKit names it: `pkg:docker/debian@12?platform=linux%2Famd64`."""
    namespace, _, name = reference.familiar_name().rpartition("/")
    qualifiers = {"digest": reference.digest or "", "platform": platform}
    return package_url("docker", name, reference.tag or "", namespace=namespace, qualifiers=qualifiers)


def layout_url(name: str, digest: str, platform: str = "") -> str:
    """An image in a layout that the build was given under a name."""
    return package_url("oci", name, qualifiers={"digest": digest, "platform": platform})


def _encoded(text: str, safe: str = "") -> str:
    return quote(text, safe=UNRESERVED + safe, errors="replace")
