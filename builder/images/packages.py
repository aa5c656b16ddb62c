"""The packages that an image's package managers know of: dpkg, apk, and Python's.

    var/lib/dpkg/status, var/lib/dpkg/status.d/*    deb-status(5): one paragraph per package
    lib/apk/db/installed, usr/lib/apk/db/installed  apk's v2 database: one paragraph per package, P: and V:
    *.dist-info/METADATA, *.egg-info/PKG-INFO       core metadata of the Python Packaging Authority

Foreign files: what cannot be read as such is passed over. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

DPKG = ("var/lib/dpkg/status", "var/lib/dpkg/status.d/")
APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
PYTHON = (".dist-info/METADATA", ".egg-info/PKG-INFO")
MAX_LINE = 4096


class Package(NamedTuple):
    """kind: dpkg, apk or python; name: as its manager has it."""

    kind: str
    name: str


def is_database(path: str) -> bool:
    """Whether a path is one that packages are read from."""
    if path == DPKG[0] or path in APK or path.endswith(PYTHON):
        return True
    return path.startswith(DPKG[1]) and not path.endswith(".md5sums")


def find_packages(paths: Iterable[str], text_of: Callable[[str], bytes | None]) -> dict[Package, str]:
    """Package -> version (several, parted by ", ", where it is there more than once)."""
    found: dict[Package, list[str]] = {}
    for path in sorted(filter(is_database, paths)):
        data = text_of(path)
        for package, version in _read(path, data) if data else ():
            known = found.setdefault(package, [])
            if version not in known:
                known.append(version)
    return {package: ", ".join(sorted(versions)) for package, versions in sorted(found.items())}


def _read(path: str, data: bytes) -> Iterator[tuple[Package, str]]:
    if path in APK:
        return _apk(data)
    return _python(data) if path.endswith(PYTHON) else _dpkg(data)


def _dpkg(data: bytes) -> Iterator[tuple[Package, str]]:
    for fields in _paragraphs(data):
        name, version = fields.get("Package", ""), fields.get("Version", "")
        # status.d of distroless images has no Status
        if name and version and fields.get("Status", "install ok installed").endswith(" installed"):
            yield Package("dpkg", name), version


def _apk(data: bytes) -> Iterator[tuple[Package, str]]:
    for fields in _paragraphs(data):
        if fields.get("P") and fields.get("V"):
            yield Package("apk", fields["P"]), fields["V"]


def _python(data: bytes) -> Iterator[tuple[Package, str]]:
    fields = next(_paragraphs(data), {})  # the description comes after the first empty line
    if fields.get("Name") and fields.get("Version"):
        yield Package("python", fields["Name"]), fields["Version"]


def _paragraphs(data: bytes) -> Iterator[Mapping[str, str]]:
    """Paragraphs of `Name: value` lines; continued lines are left out, and of several the first counts."""
    fields: dict[str, str] = {}
    for raw in data.splitlines():
        line = raw[:MAX_LINE].decode("utf-8", "replace")
        if not line.strip():
            if fields:
                yield fields
            fields = {}
            continue
        name, colon, value = line.partition(":")
        if colon and name and not name[0].isspace():
            fields.setdefault(name, value.strip())
    if fields:
        yield fields
