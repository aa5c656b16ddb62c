"""Modules in programs that Go built: the build info that its linker leaves in ELF files.

    debug/buildinfo of Go's library; since Go 1.18 the texts follow the mark, before that pointers to them do

Only as much of a file is read as its headers lead to, and every offset and size in them is doubted.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from builder.attest.packages.package import Package, Unreadable
from builder.attest.purl import package_url

MAGIC = b"\xff Go buildinf:"
ELF = b"\x7fELF"
SECTION = b".go.buildinfo"
HEAD = 32  # bytes before texts that follow the mark
MAX_INFO = 8 << 20  # bytes of the texts
SEARCHED = 1 << 20  # bytes in which the mark may stand
MAX_SEARCHED = 16  # segments
MAX_HEADERS = 4096  # segments or sections
PT_LOAD = 1
EXECUTABLE = 1
WRAPPED = 16  # bytes around the modules' text


class _Elf:
    """An ELF file that is open: its loaded segments, and where build info may be."""

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        self.file = file
        self.order = ">" if head[5] == 2 else "<"
        self.wide = head[4] == 2
        try:
            self.segments = list(self._read_segments(head))
            self.info = list(self._find_sections(head))
        except struct.error as error:
            raise Unreadable("its ELF header is damaged") from error

    def _table(self, head: bytes, form: str, at: tuple[int, int, int]) -> list[bytes]:
        """The rows of a table that the header tells of."""
        begin, each, count = (
            struct.unpack_from(self.order + kind, head, place)[0]
            for kind, place in zip(form, at, strict=True)
        )
        if count > MAX_HEADERS:
            raise Unreadable("its ELF header tells of too many parts")
        data = self.at(begin, each * count)
        rows = [data[number * each : (number + 1) * each] for number in range(count)]
        return [row for row in rows if len(row) == each and each >= 32]

    def _read_segments(self, head: bytes) -> Iterator[tuple[int, int, int, int]]:
        """(flags, offset, address, size in the file) of what is loaded."""
        rows = self._table(head, "QHH" if self.wide else "IHH", (32, 54, 56) if self.wide else (28, 42, 44))
        for row in rows:
            if self.wide:
                kind, flags, offset, address, _, size = struct.unpack_from(self.order + "IIQQQQ", row)
            else:
                kind, offset, address, _, size, _, flags = struct.unpack_from(self.order + "IIIIIII", row)
            if kind == PT_LOAD:
                yield flags, offset, address, size

    def _find_sections(self, head: bytes) -> Iterator[tuple[int, int]]:
        """Where the mark may stand, as (offset, size): its section, else the beginnings of segments."""
        form, at = ("QHH", (40, 58, 60)) if self.wide else ("IHH", (32, 46, 48))
        rows = self._table(head, form, at)
        (names_at,) = struct.unpack_from(self.order + "H", head, 62 if self.wide else 50)
        row_form = self.order + ("IIQQQQ" if self.wide else "IIIIII")
        sections = [struct.unpack_from(row_form, row) for row in rows]
        if not sections or names_at >= len(sections):
            for flags, offset, _, size in self.segments[:MAX_SEARCHED]:
                if not flags & EXECUTABLE:
                    yield offset, min(size, SEARCHED)
            return
        names = self.at(sections[names_at][4], min(sections[names_at][5], SEARCHED))
        for name, _, _, _, offset, size in sections:
            if names[name : name + len(SECTION) + 1] == SECTION + b"\0":
                yield offset, min(size, SEARCHED)
                return

    def at(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer at its end."""
        if offset >= 1 << 62:
            return b""
        try:
            self.file.seek(offset)
            return self.file.read(min(size, MAX_INFO))
        except (OSError, OverflowError) as error:
            raise Unreadable("it cannot be read") from error

    def mapped(self, address: int, size: int) -> bytes:
        """The bytes that a loaded program has at an address."""
        for _, offset, begin, length in self.segments:
            if begin <= address < begin + length:
                return self.at(offset + address - begin, min(size, begin + length - address))
        return b""


def read(file: BinaryIO, path: str) -> Iterator[Package]:
    """The modules in a program; none where it is no ELF file, or not Go's. Raises Unreadable."""
    head = file.read(64)
    if not head.startswith(ELF) or len(head) < 64:
        return
    elf = _Elf(file, head)
    found = _find(elf)
    if found is None:
        return
    version, modules = found
    goversion = version.split(" ", 1)[0].removeprefix("go")
    if goversion:
        yield _module("stdlib", goversion, path)
    yield from _modules(modules, path)


def _find(elf: _Elf) -> tuple[str, str] | None:
    """Go's version and the text about modules, where the mark stands."""
    for offset, size in elf.info:
        data = elf.at(offset, size)
        place = data.find(MAGIC)
        if place >= 0:
            return _texts(elf, offset + place, data[place : place + HEAD])
    return None


def _texts(elf: _Elf, offset: int, head: bytes) -> tuple[str, str] | None:
    if len(head) < HEAD:
        return None
    width, flags = head[14], head[15]
    if flags & 2:
        data = elf.at(offset + HEAD, MAX_INFO)
        version, rest = _counted(data)
        modules, _ = _counted(rest)
    else:
        if width not in (4, 8):
            return None
        order = ">" if flags & 1 else "<"
        form = order + ("Q" if width == 8 else "I")
        version, modules = (
            _pointed(elf, struct.unpack_from(form, head, 16 + width * n)[0], form) for n in (0, 1)
        )
    if len(modules) > 2 * WRAPPED and modules[-WRAPPED - 1 : -WRAPPED] == b"\n":
        modules = modules[WRAPPED:-WRAPPED]
    else:
        modules = b""
    return version.decode("utf-8", "replace"), modules.decode("utf-8", "replace")


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """A text behind its length (a varint), and what follows."""
    length, shift = 0, 0
    for place, byte in enumerate(data[:10]):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            end = place + 1 + length
            return (data[place + 1 : end], data[end:]) if end <= len(data) else (b"", b"")
    return b"", b""


def _pointed(elf: _Elf, address: int, form: str) -> bytes:
    """The bytes of a Go string: a pointer and a length at an address."""
    width = struct.calcsize(form)
    header = elf.mapped(address, 2 * width)
    if len(header) < 2 * width:
        return b""
    begin, length = (struct.unpack_from(form, header, width * n)[0] for n in (0, 1))
    return elf.mapped(begin, length) if length <= MAX_INFO else b""


def _modules(text: str, path: str) -> Iterator[Package]:
    """The modules that lines of `mod`, `dep` and `=>` (which replaces the one before) name."""
    last: tuple[str, str] | None = None
    for line in text.split("\n"):
        parts = line.split("\t")
        if len(parts) == 2 and parts[0] == "path" and "\nmod\t" not in text:
            last = (parts[1], "")  # built without modules: what it is called is all that is known
        if len(parts) >= 3 and parts[0] in ("mod", "dep"):
            if last:
                yield _module(*last, path)
            last = (parts[1], parts[2])
        elif len(parts) >= 3 and parts[0] == "=>" and last:
            last = (parts[1], parts[2])
    if last:
        yield _module(*last, path)


def _module(name: str, version: str, path: str) -> Package:
    version = "" if version == "(devel)" else version
    namespace, _, last = name.rpartition("/")
    purl = package_url("golang", last, version, namespace=namespace)
    return Package(kind="golang", name=name, version=version, purl=purl, found=path)


def is_program(path: str, mode: int, size: int) -> bool:
    """Whether a file may be a program: it can be executed, or is called like a library."""
    name = os.path.basename(path)
    return size >= 64 and bool(mode & 0o111 or name.endswith(".so"))
