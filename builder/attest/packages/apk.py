"""Alpine's packages: apk's installed database, stanzas of one-letter fields (apk-package(5))."""

from __future__ import annotations

from collections.abc import Iterator

from builder.attest.packages.package import Files, Package, System, stanzas
from builder.attest.purl import package_url

PLACES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")  # apk-tools 2 and 3
MAX_INSTALLED = 32 << 20
FIELDS = frozenset("PVALTUom")


def read(files: Files, system: System) -> Iterator[Package]:
    """The packages that are installed. Raises Unreadable."""
    for path in PLACES:
        data = files.read(path, MAX_INSTALLED)
        if data is None:
            continue
        for fields in stanzas(data, FIELDS):
            name, version = fields.get("P", ""), fields.get("V", "")
            if name and version:
                yield _package(name, version, fields, system, path)
        return


def _package(name: str, version: str, fields: dict[str, str], system: System, found: str) -> Package:
    qualifiers = {"arch": fields.get("A", ""), "distro": system.distro}
    if fields.get("o", name) != name:
        qualifiers["upstream"] = fields["o"]
    return Package(
        kind="apk",
        name=name,
        version=version,
        purl=package_url("apk", name, version, namespace=system.id or "alpine", qualifiers=qualifiers),
        found=found,
        license=fields.get("L", ""),
        supplier=fields.get("m", ""),
        homepage=fields.get("U", ""),
        summary=fields.get("T", ""),
    )
