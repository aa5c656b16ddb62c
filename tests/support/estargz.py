"""A reader of eStargz by its specification alone (containerd/stargz-snapshotter, docs/estargz.md).

It shares no code with what writes such blobs: gzip members by zlib, tars by tarfile, JSON by json.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zlib
from typing import Any

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
TYPES = {"dir", "reg", "symlink", "hardlink", "char", "block", "fifo", "chunk"}


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def members(blob: bytes) -> dict[int, bytes]:
    """Where each gzip member begins, and what it holds."""
    found, at = {}, 0
    while at < len(blob):
        member = zlib.decompressobj(31)
        data = member.decompress(blob[at:])
        assert member.eof, f"the member at {at} is cut off"
        found[at] = data
        at = len(blob) - len(member.unused_data)
    return found


def toc_offset(blob: bytes) -> int:
    """What the footer says."""
    footer = blob[-51:]
    assert footer[:4] == b"\x1f\x8b\x08\x04"
    assert int.from_bytes(footer[10:12], "little") == 26
    assert footer[12:14] == b"SG"
    assert int.from_bytes(footer[14:16], "little") == 22
    assert footer[32:38] == b"STARGZ"
    assert footer[38:43] == b"\x01\0\0\xff\xff"
    assert footer[43:] == bytes(8)
    return int(footer[16:32], 16)


class Estargz:
    """A blob, and what its descriptor says; all that the specification demands is asserted."""

    def __init__(self, blob: bytes, annotations: dict[str, str]) -> None:
        self.blob = blob
        self.members = members(blob)
        self.uncompressed = b"".join(self.members.values())
        self.offset = toc_offset(blob)
        assert {0, self.offset, len(blob) - 51} <= self.members.keys()
        with tarfile.open(fileobj=io.BytesIO(self.members[self.offset])) as archive:
            (member,) = archive.getmembers()
            assert member.name == "stargz.index.json"
            assert member.isreg()
            table = archive.extractfile(member)
            assert table is not None
            self.toc = table.read()
        assert annotations[TOC_DIGEST] == sha256(self.toc)
        assert annotations[UNCOMPRESSED_SIZE] == str(len(self.uncompressed))
        document = json.loads(self.toc)
        assert document["version"] == 1
        self.entries: list[dict[str, Any]] = document["entries"]
        self._check_entries()
        self._check_tar()

    def read(self, name: str) -> bytes:
        """A file's bytes, each chunk fetched and verified by itself, as a runtime does it."""
        (first,) = [entry for entry in self.entries if entry["name"] == name and entry["type"] == "reg"]
        if not first.get("size"):
            return b""
        chunks = [first, *(e for e in self.entries if e["name"] == name and e["type"] == "chunk")]
        data = b""
        for chunk in chunks:
            assert chunk.get("chunkOffset", 0) == len(data)
            size = chunk.get("chunkSize", 0) or first["size"] - len(data)
            assert chunk["offset"] in self.members
            piece = zlib.decompressobj(31).decompress(self.blob[chunk["offset"] :], size)
            assert len(piece) == size
            assert chunk["chunkDigest"] == sha256(piece)
            data += piece
        assert not chunks[-1].get("chunkSize"), "the last chunk's size is to be zero"
        assert len(data) == first["size"]
        assert first["digest"] == sha256(data)
        return data

    def _check_entries(self) -> None:
        for entry in self.entries:
            assert entry["type"] in TYPES
            assert {"name", "mode", "uid", "gid"} <= entry.keys()
            if entry["type"] in ("symlink", "hardlink"):
                assert entry["linkName"]
            if entry["type"] in ("char", "block"):
                assert {"devMajor", "devMinor"} <= entry.keys()
            if entry["type"] == "chunk":
                assert {"offset", "chunkOffset", "chunkDigest"} <= entry.keys()
            for value in entry.get("xattrs", {}).values():
                base64.b64decode(value, validate=True)

    def _check_tar(self) -> None:
        """The tar has what the table tells, in its order, and the table at its end."""
        with tarfile.open(fileobj=io.BytesIO(self.uncompressed)) as archive:
            told = [entry for entry in self.entries if entry["type"] != "chunk"]
            there = archive.getmembers()
            assert [entry["name"].rstrip("/") for entry in told] == [m.name for m in there[:-1]]
            assert there[-1].name == "stargz.index.json"
            for entry, member in zip(told, there, strict=False):
                assert (entry["mode"], entry["uid"], entry["gid"]) == (member.mode, member.uid, member.gid)
                if entry["type"] == "reg":
                    body = archive.extractfile(member)
                    assert body is not None
                    assert self.read(entry["name"]) == body.read()
        landmarks = [entry for entry in told if entry["name"].endswith(".landmark")]
        assert [entry["name"] for entry in landmarks] == [".no.prefetch.landmark"]
        assert self.read(".no.prefetch.landmark") == b"\x0f"
