"""Packages of Node.js: package.json of what lies in node_modules, and lock files of what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from builder.attest.packages.package import Files, Package, Unreadable
from builder.attest.purl import package_url

MODULES = "node_modules/"
MANIFEST = "package.json"
LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
INSTALLED = ".package-lock.json"  # npm's own note of what is in node_modules
MAX_MANIFEST = 4 << 20
MAX_LOCK = 64 << 20
MAX_DEPTH = 64  # of dependencies in dependencies


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
    document = _document(files, path, MAX_LOCK)
    packages = document.get("packages")
    if isinstance(packages, dict):
        for place, entry in packages.items():
            name = place.rpartition(MODULES)[2]
            if place and isinstance(entry, dict) and not entry.get("dev") and not entry.get("link"):
                yield from _locked(entry.get("name") or name, entry, path)
        return
    yield from _nested(document.get("dependencies"), path)


def _nested(dependencies: object, path: str) -> Iterator[Package]:
    """The packages of a lock file of npm 6 and before."""
    pending = [(dependencies, 0)]
    while pending:
        entries, depth = pending.pop()
        if not isinstance(entries, dict) or depth > MAX_DEPTH:
            continue
        for name, entry in entries.items():
            if isinstance(entry, dict) and not entry.get("dev"):
                yield from _locked(name, entry, path)
                pending.append((entry.get("dependencies"), depth + 1))


def _locked(name: object, entry: dict[str, Any], path: str) -> Iterator[Package]:
    version = entry.get("version")
    if isinstance(name, str) and name and isinstance(version, str):
        yield _package(name, version, path, entry)


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
