"""Filesystems in memory for who looks for packages in them, and the databases that rpm has, as bytes."""

from __future__ import annotations

import io
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from builder.attest.packages.find import Inventory, find_packages
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, Entry, LayerId, parent_of
from builder.snapshots.tree import Tree

LAYER = LayerId("layer")


def tree_of(files: Mapping[str, bytes | str], links: Mapping[str, str] | None = None) -> Tree:
    """A tree of files (of programs those whose bytes begin as such) with their folders, and symlinks."""
    entries: dict[str, Entry] = {}
    for path in [*files, *(links or {})]:
        folder = path
        while (folder := parent_of(folder)) != ".":
            entries.setdefault(folder, Entry(folder, FOLDER, 0o755))
    for path, data in files.items():
        mode = 0o755 if as_bytes(data).startswith(b"\x7fELF") else 0o644
        entries[path] = Entry(path, FILE, mode, size=len(as_bytes(data)))
    for path, target in (links or {}).items():
        entries[path] = Entry(path, SYMLINK, 0o777, link=target)
    return Tree().plus(LAYER, entries.values())


def as_bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def found_in(files: Mapping[str, bytes | str], links: Mapping[str, str] | None = None) -> Inventory:
    """What is found in a filesystem of these files."""

    def open_file(_layer: LayerId, entry: Entry) -> BinaryIO:
        return io.BytesIO(as_bytes(files[entry.path]))

    return find_packages(tree_of(files, links), open_file)


def rpm_header(tags: Mapping[int, str | int]) -> bytes:
    """A header as rpm's databases have it."""
    index, data = b"", b""
    for tag, value in tags.items():
        if isinstance(value, int):
            data += b"\0" * (-len(data) % 4)
            index += struct.pack(">IIII", tag, 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            index += struct.pack(">IIII", tag, 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


def rpm_package(name: str, version: str = "1", **more: int) -> bytes:
    """The header of a package; more: `epoch`."""
    tags: dict[int, str | int] = {1000: name, 1001: version, 1002: "2", 1014: "MIT", 1022: "noarch"}
    tags |= {1011: "Vendor", 1044: f"{name}-{version}-2.src.rpm"}
    if "epoch" in more:
        tags[1003] = more["epoch"]
    return rpm_header(tags)


def rpm_sqlite(headers: Sequence[bytes]) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(header,) for header in headers])
    connection.commit()
    data = bytes(connection.serialize())
    connection.close()
    return data[:18] + b"\2\2" + data[20:]  # of a database with a write-ahead log, as rpm makes it


def rpm_ndb(headers: Sequence[bytes]) -> bytes:
    """lib/backend/ndb/rpmpkg.c: a page of slots, then blobs of whole blocks."""
    slots, blobs, block = [], b"", 4096 // 16
    for number, header in enumerate(headers, 1):
        blob = struct.pack("<4sIII", b"BlbS", number, 1, len(header)) + header
        blob += struct.pack("<4sII", b"BlbE", 0, len(header))
        blob += b"\0" * (-len(blob) % 16)
        slots.append(struct.pack("<4sIII", b"Slot", number, block, len(blob) // 16))
        blobs += blob
        block += len(blob) // 16
    free = struct.pack("<4sIII", b"Slot", 0, 0, 0)
    head = struct.pack("<4sIIIIIII", b"RpmP", 0, 1, 1, len(headers) + 1, 0, 0, 0)
    return head + b"".join(slots) + free * (256 - 2 - len(slots)) + blobs


def rpm_bdb(headers: Sequence[bytes], order: str = "<", size: int = 512) -> bytes:
    """A hash of Berkeley DB with one page of keys, the values on overflow pages."""
    meta = bytearray(size)
    struct.pack_into(order + "I", meta, 12, 0x00061561)
    struct.pack_into(order + "II", meta, 16, 9, size)
    meta[25] = 8
    keys, overflow = bytearray(size), []
    place, places = size, []
    for number, header in enumerate(headers, 1):
        pages = [header[i : i + size - 26] for i in range(0, len(header), size - 26)]
        first = 2 + len(overflow)
        for at, piece in enumerate(pages):
            page = bytearray(size)
            following = first + at + 1 if at + 1 < len(pages) else 0
            struct.pack_into(order + "III", page, 8, first + at, 0, following)
            struct.pack_into(order + "HH", page, 20, 1, len(piece))
            page[25] = 7
            page[26 : 26 + len(piece)] = piece
            overflow.append(bytes(page))
        for item in (
            b"\1" + struct.pack(order + "I", number),
            b"\3\0\0\0" + struct.pack(order + "II", first, len(header)),
        ):
            place -= len(item)
            keys[place : place + len(item)] = item
            places.append(place)
    struct.pack_into(order + "I", keys, 8, 1)
    struct.pack_into(order + "HH", keys, 20, len(places), place)
    keys[25] = 13
    struct.pack_into(f"{order}{len(places)}H", keys, 26, *places)
    struct.pack_into(order + "I", meta, 32, 1 + len(overflow))
    return bytes(meta) + bytes(keys) + b"".join(overflow)


def go_program(version: str, modules: str, *, sections: bool = True, old: bool = False) -> bytes:
    """A small ELF file with build info: behind its mark, or (old) by pointers, as before Go 1.18."""
    wrapped = b"\x30w\xaf\x0c\x92t\x08\x02A\xe1\xc1\x07\xe6\xd6\x18\xe6" + modules.encode()
    wrapped += b"\xf92C1\x86\x18 r\x00\x82B\x10A\x16\xd8\xf2"
    begin, address = 0x1000, 0x401000
    if old:
        texts = [version.encode(), wrapped]
        info = b"\xff Go buildinf:" + bytes((8, 0)) + struct.pack("<QQ", address + 32, address + 48)
        info += struct.pack("<QQ", address + 64, len(texts[0]))
        info += struct.pack("<QQ", address + 64 + len(texts[0]), len(texts[1])) + texts[0] + texts[1]
    else:
        info = b"\xff Go buildinf:" + bytes((8, 2)) + bytes(16)
        info += _counted(version.encode()) + _counted(wrapped)
    names = b"\0.go.buildinfo\0.shstrtab\0"
    table = begin + len(info) + len(names)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    shape = (64, 56, 1, 64, 3, 2) if sections else (64, 56, 1, 64, 0, 0)
    head += struct.pack("<HHIQQQI", 2, 62, 1, address, 64, table if sections else 0, 0)
    head += struct.pack("<HHHHHH", *shape)
    segment = struct.pack("<IIQQQQQQ", 1, 6, begin, address, address, len(info), len(info), 16)
    rows = bytes(64)
    rows += struct.pack("<IIQQQQIIQQ", 1, 1, 3, address, begin, len(info), 0, 0, 16, 0)
    rows += struct.pack("<IIQQQQIIQQ", 15, 3, 0, 0, begin + len(info), len(names), 0, 0, 1, 0)
    return (head + segment).ljust(begin, b"\0") + info + names + rows


def _counted(data: bytes) -> bytes:
    count, length = b"", len(data)
    while length > 0x7F:
        count += bytes((length & 0x7F | 0x80,))
        length >>= 7
    return count + bytes((length,)) + data
