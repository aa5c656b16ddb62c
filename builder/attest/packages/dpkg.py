"""Debian's packages: deb-control(5) stanzas in var/lib/dpkg/status, and in files of status.d (distroless)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.attest.packages.package import Files, Package, System, stanzas
from builder.attest.purl import package_url

STATUS, FOLDER = "var/lib/dpkg/status", "var/lib/dpkg/status.d"
MAX_STATUS = 32 << 20
MAX_STANZA = 4 << 20
FIELDS = frozenset(
    ("Package", "Version", "Architecture", "Source", "Maintainer", "Homepage", "Description", "Status")
)
_SOURCE = re.compile(r"([^\s(]+)(?:\s+\(([^)]*)\))?")


def read(files: Files, system: System) -> Iterator[Package]:
    """The packages that are installed. Raises Unreadable."""
    if (data := files.read(STATUS, MAX_STATUS)) is not None:
        for fields in stanzas(data, FIELDS):
            if fields.get("Status", "").endswith(" installed"):
                yield from _package(fields, system, STATUS)
    for name in files.listed(FOLDER):
        if name.endswith(".md5sums"):
            continue
        path = f"{FOLDER}/{name}"
        if (data := files.read(path, MAX_STANZA)) is not None:
            for fields in stanzas(data, FIELDS):
                yield from _package(fields, system, path)


def _package(fields: dict[str, str], system: System, found: str) -> Iterator[Package]:
    name, version = fields.get("Package", ""), fields.get("Version", "")
    if not name or not version:
        return
    qualifiers = {"arch": fields.get("Architecture", ""), "distro": system.distro}
    source = _SOURCE.match(fields.get("Source", ""))
    if source and (source[1], source[2] or version) != (name, version):
        qualifiers["upstream"] = f"{source[1]}@{source[2]}" if source[2] else source[1]
    yield Package(
        kind="deb",
        name=name,
        version=version,
        purl=package_url("deb", name, version, namespace=system.id or "debian", qualifiers=qualifiers),
        found=found,
        supplier=fields.get("Maintainer", ""),
        homepage=fields.get("Homepage", ""),
        summary=fields.get("Description", ""),
    )
