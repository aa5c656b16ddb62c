"""Packages of Node.js: package.json of what lies in node_modules, and lock files of what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from builder.attest.packages.package import Files, Package, Unreadable
from builder.attest.purl import package_url

T = TypeVar("T")
NONE = msgspec.Raw(b"{}")
MODULES = "node_modules/"
MANIFEST = "package.json"
LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
INSTALLED = ".package-lock.json"  # npm's own note of what is in node_modules
MAX_MANIFEST = 1 << 20
MAX_LOCK = 8 << 20
MAX_DEPTH = 64  # of dependencies in dependencies


class _Lock(msgspec.Struct):
    packages: dict[str, msgspec.Raw] | None = None
    dependencies: msgspec.Raw = NONE


class _Licence(msgspec.Struct):
    type: str = ""


class _Locked(msgspec.Struct):
    name: str = ""
    version: str = ""
    license: str | _Licence = ""
    dev: bool = False
    link: bool = False
    dependencies: msgspec.Raw = NONE

    def package(self, name: str, path: str) -> Iterator[Package]:
        """The package under a name, if it has a version."""
        licence = self.license if isinstance(self.license, str) else self.license.type
        if name and self.version:
            yield _package(name, self.version, path, {"license": licence})


def is_manifest(path: str) -> bool:
    """Whether it is the package.json of a package in node_modules, and not of a folder inside of one."""
    _, found, rest = path.rpartition(MODULES)
    if not found or not rest.endswith("/" + MANIFEST):
        return False
    parts = rest.split("/")
    return len(parts) == (3 if rest.startswith("@") else 2)


def is_lock(path: str) -> bool:
    """Whether it is a lock file of a project that has its packages elsewhere, or nowhere."""
    return path.rpartition("/")[2] in LOCKS and MODULES not in path


def read(files: Files, path: str) -> Iterator[Package]:
    """The package that a package.json tells of. Raises Unreadable."""
    document = _document(files, path, MAX_MANIFEST)
    name, version = document.get("name"), document.get("version")
    if isinstance(name, str) and isinstance(version, str) and name:
        yield _package(name, version, path, document)


def read_lock(files: Files, path: str) -> Iterator[Package]:
    """The packages that a lock file names, but for those of development. Raises Unreadable."""
    data = files.read(path, MAX_LOCK)
    lock = _decoded(data, _Lock) if data is not None else _Lock()
    if lock is None:
        raise Unreadable("it is no lock file that can be read")
    if lock.packages is None:
        yield from _nested(lock.dependencies, path)
        return
    for place, raw in lock.packages.items():
        entry = _decoded(raw, _Locked)
        if place and entry is not None and not entry.dev and not entry.link:
            yield from entry.package(entry.name or place.rpartition(MODULES)[2], path)


def _nested(dependencies: msgspec.Raw, path: str) -> Iterator[Package]:
    """The packages of a lock file of npm 6 and before."""
    pending = [(dependencies, 0)]
    while pending:
        raw, depth = pending.pop()
        entries = _decoded(raw, dict[str, msgspec.Raw]) if depth <= MAX_DEPTH else None
        for name, one in (entries or {}).items():
            entry = _decoded(one, _Locked)
            if entry is not None and not entry.dev:
                yield from entry.package(name, path)
                pending.append((entry.dependencies, depth + 1))


def _decoded(data: bytes | msgspec.Raw, kind: type[T]) -> T | None:
    """JSON as a value of a type, of which no more is made than the type asks for; None where it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _document(files: Files, path: str, limit: int) -> dict[str, Any]:
    data = files.read(path, limit)
    if data is None:
        return {}
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unreadable("it is no JSON that can be read") from error
    return document if isinstance(document, dict) else {}


def _package(name: str, version: str, found: str, document: dict[str, Any]) -> Package:
    namespace, _, last = name.rpartition("/")
    return Package(
        kind="npm",
        name=name,
        version=version,
        purl=package_url("npm", last, version, namespace=namespace),
        found=found,
        license=_text(document.get("license"), "type"),
        supplier=_text(document.get("author"), "name"),
        homepage=_text(document.get("homepage"), "url"),
        summary=_text(document.get("description"), ""),
    )


def _text(value: object, member: str) -> str:
    """A text, or that member of an object."""
    if isinstance(value, dict):
        value = value.get(member)
    return value if isinstance(value, str) else ""
