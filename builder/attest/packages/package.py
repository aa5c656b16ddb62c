"""A package as its manager tells of it, and the filesystem that it is read from. Values only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import msgspec

LONGEST = {"name": 512, "version": 512, "license": 1024, "supplier": 512, "homepage": 2048}
MAX_SUMMARY = 1024
MAX_LINE = 64 << 10


class Unreadable(Exception):
    """A file of a package manager that cannot be understood; the text says why, for people."""


class Files(Protocol):
    """The files of an image. Paths are relative, symlinks are followed inside of it."""

    def read(self, path: str, limit: int) -> bytes | None:
        """A file's bytes; None where there is none. Raises Unreadable for one of more than `limit` bytes."""

    def listed(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""

    def open(self, path: str) -> BinaryIO | None:
        """A file to read from; None where there is none."""


class System(msgspec.Struct, frozen=True):
    """A distribution, as /etc/os-release names it: `id` and `version` as "debian" and "12", "" if unknown."""

    id: str = ""
    version: str = ""
    name: str = ""

    @property
    def distro(self) -> str:
        """As purls have it: "debian-12"."""
        return f"{self.id}-{self.version}" if self.id and self.version else self.id


class Package(msgspec.Struct, frozen=True):
    """kind: of the manager ("deb", "apk", "rpm", "pypi", "npm", "golang"); found: the path of the file that
    tells of it; purl: a package URL. license: as the manager has it, in whatever terms."""

    kind: str
    name: str
    version: str
    purl: str
    found: str
    license: str = ""
    supplier: str = ""
    homepage: str = ""
    summary: str = ""


def bounded(package: Package) -> Package:
    """The package with no text longer than anybody needs, and no controls in it."""
    changes = {name: tidy(getattr(package, name), most) for name, most in LONGEST.items()}
    return msgspec.structs.replace(package, summary=tidy(package.summary, MAX_SUMMARY), **changes)


def tidy(text: str, most: int) -> str:
    """The first line of a foreign text, printable, of valid UTF-8 and not endless."""
    text = text.strip().split("\n", 1)[0][:most]
    clean = "".join(mark if mark.isprintable() else " " for mark in text)
    return clean.encode("utf-8", "replace").decode("utf-8").strip()


def stanzas(data: bytes, wanted: frozenset[str], mark: str = ":") -> Iterator[dict[str, str]]:
    """Blocks of `Name: value` lines, parted by empty lines; of a value its first line, of names those
    wanted."""
    fields: dict[str, str] = {}
    for raw in io.BytesIO(data):
        line = raw[:MAX_LINE].decode("utf-8", "replace").rstrip("\r\n")
        if not line.strip():
            if fields:
                yield fields
            fields = {}
            continue
        if line[0] in " \t":
            continue
        name, has_value, value = line.partition(mark)
        if has_value and name in wanted:
            fields.setdefault(name, value.strip())
    if fields:
        yield fields
