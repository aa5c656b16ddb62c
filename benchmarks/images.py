"""Reading files out of a built image's archive: an OCI layout, or what `docker save` writes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import zstandard

ZSTD = b"\x28\xb5\x2f\xfd"
LONGEST = 200  # bytes read of a file


def read_files(archive: Path, names: Iterable[str]) -> dict[str, str]:
    """How the named files begin, as the uppermost layer that has them tells it."""
    found: dict[str, str] = {}
    with tarfile.open(archive) as outer:
        for layer in _layers(outer):
            with _opened(outer, layer) as inner:
                for member in inner:
                    name = member.name.removeprefix("./")
                    if name in names and member.isreg():
                        content = inner.extractfile(member)
                        assert content is not None
                        found[name] = content.read(LONGEST).decode(errors="replace")
    return found


def _layers(outer: tarfile.TarFile) -> list[str]:
    """The members that are the image's layers, bottom first."""
    if "index.json" not in outer.getnames():
        return list(_json(outer, "manifest.json")[0]["Layers"])
    document = _json(outer, "index.json")
    while "layers" not in document:
        digest = document["manifests"][0]["digest"]
        document = _json(outer, "blobs/" + digest.replace(":", "/"))
    return ["blobs/" + layer["digest"].replace(":", "/") for layer in document["layers"]]


def _json(outer: tarfile.TarFile, name: str):  # type: ignore[no-untyped-def]
    member = outer.extractfile(name)
    assert member is not None
    return json.load(member)


def _opened(outer: tarfile.TarFile, name: str) -> tarfile.TarFile:
    member: IO[bytes] | None = outer.extractfile(name)
    assert member is not None
    head = member.read(4)
    member.seek(0)
    if head == ZSTD:
        reader = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(member))
        return tarfile.open(fileobj=reader, mode="r|")
    return tarfile.open(fileobj=member, mode="r|*")
