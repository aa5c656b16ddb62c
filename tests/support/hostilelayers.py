"""Layers that mean harm, header by header, and images around them: in a layout, as archives.

A member is (name, type, data or link text, options); see `member`.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from builder.oci import spec
from builder.oci import tar_header as th
from tests.support.layouts import LayoutMaker, digest_of, make_tar

END = bytes(1024)
LINKS = (th.HARDLINK, th.SYMLINK)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % th.BLOCK)


def header(
    name: str | bytes, kind: bytes = th.REGULAR, size: int = 0, link: str = "", device: Any = (0, 0)
) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    return th.header_block(raw, b"", (0o644, 0, 0, size, 0), kind, link.encode(), device)


def pax(records: Mapping[str, bytes]) -> bytes:
    data = b"".join(th.pax_record(key.encode(), value) for key, value in records.items())
    return header("pax", th.PAX, len(data)) + padded(data)


def member(name: str, kind: bytes = th.REGULAR, content: bytes | str = b"", device: Any = (0, 0)) -> bytes:
    """A header and its data; content: bytes of a file, the text of a link."""
    if isinstance(content, str):
        return header(name, kind, 0, content)
    return header(name, kind, len(content), "", device) + padded(content)


def tar_of(*members: bytes) -> bytes:
    return b"".join(members) + END


def layer_in_layout(folder: Path, blob: bytes, diff_id: str, media_type: str = spec.OCI_LAYER_GZIP) -> Path:
    """A layout with one image of one layer, tagged `1`."""
    layout = LayoutMaker(folder)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": spec.OCI_MANIFEST,
        "config": layout.document(config, spec.OCI_CONFIG),
        "layers": [layout.blob(blob, media_type)],
    }
    layout.name(layout.document(manifest, spec.OCI_MANIFEST), "1")
    return folder


def docker_archive(layer: bytes, **image: Any) -> bytes:
    """What `docker save` writes, but for what `image` says of it."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
    }
    listed = {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"], **image}
    return make_tar(
        {
            "layer.tar": layer,
            "c.json": json.dumps(config).encode(),
            "manifest.json": json.dumps([listed]).encode(),
        }
    )


def archive_of(folder: Path) -> bytes:
    """A layout as an archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, str(path.relative_to(folder)), recursive=False)
    return out.getvalue()


# ── bombs ────────────────────────────────────────────────────────────────────────────────────────────────


def gzip_bomb(size: int, start: bytes = b"") -> bytes:
    """`start` and then `size` zeros at least, in members of 64 MiB each: a thousandth of that."""
    step = 64 << 20
    return gzip.compress(start, mtime=0) + gzip.compress(bytes(step), 9, mtime=0) * -(-size // step)


def zstd_bomb(size: int, start: bytes = b"", byte: bytes = b"\0", window: int = 0x58) -> bytes:
    """The same in one zstd frame: blocks of 128 KiB that are one byte again and again (RFC 8878, 3.1.1.2).

    window: the byte that says how large it is, by default 2 MiB.
    """
    step = 128 << 10
    head = b"\x28\xb5\x2f\xfd" + bytes((0x00, window))  # no size, no checksum
    first = (len(start) << 3).to_bytes(3, "little") + start
    more = (1 << 1 | step << 3).to_bytes(3, "little") + byte
    last = (1 | 1 << 1 | step << 3).to_bytes(3, "little") + byte
    return head + first + more * (-(-size // step) - 1) + last


def xz_of_much_memory(data: bytes) -> bytes:
    """What asks for a dictionary of 4 GiB before it gives a byte (the xz file format, 3.1 and 5.3.1)."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=filters))
    packed[packed.index(b"\x21\x01", 12) + 2] = 40  # LZMA2, one byte of properties: the size
    end = 12 + packed[12] * 4
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    return bytes(packed)


def sparse_bomb(size: int) -> bytes:
    """A tar of some hundred bytes with a file of `size` zeros (GNU's sparse format 1.0)."""
    told = {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.realsize": b"%d" % size}
    return tar_of(pax({**told, "GNU.sparse.name": b"holes"}) + member("holes", content=padded(b"0\n")))


def many(members: Iterable[bytes], level: int = 1) -> bytes:
    """A compressed tar of members that are never all in memory."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=level, mtime=0) as packed:
        for piece in members:
            packed.write(piece)
        packed.write(END)
    return out.getvalue()


def escaping(outside: Path) -> bytes:
    """A tar that tries every way out to a folder of the machine."""
    there, up = os.fspath(outside), "../" * 12
    return tar_of(
        member("../escaped", content=b"x"),
        member(f"{up}{there[1:]}/escaped", content=b"x"),
        member("way", th.SYMLINK, there),
        member("way/escaped", content=b"x"),
        member("far", th.SYMLINK, f"{up}{there[1:]}"),
        member("far/escaped", content=b"x"),
        member("way/.wh.secret"),
        member("far/.wh..wh..opq"),
        member("magic", th.SYMLINK, "/proc/self/root"),
        pax({"path": f"magic{there}/escaped".encode()}) + member("a", content=b"x"),
        pax({"linkpath": f"{there}/secret".encode()}) + member("through", th.SYMLINK, "a"),
        member("through", content=b"x"),
    )
