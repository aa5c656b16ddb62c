"""Images as the specification describes them, read by the standard library: nothing of the builder is used.

Reading checks: every digest and size, diff ids, the history's count, the order and names of tar members.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

REF_NAME = "org.opencontainers.image.ref.name"
CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
Json = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """One path of an image. kind: file, folder, symlink, char, block, fifo; layer: the one it came with."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: float
    data: bytes = b""
    link: str = ""
    device: tuple[int, int] = (0, 0)
    capability: bytes = b""
    layer: int = 0


@dataclass(frozen=True)
class ReadImage:
    """An image that passed all checks. layers: the members of each, by path, whiteouts as they are."""

    digest: str
    manifest: Json
    config: Json
    layers: list[dict[str, Member]] = field(default_factory=list)

    @property
    def run(self) -> Json:
        found: Json = self.config["config"]
        return found

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config["rootfs"]["diff_ids"])

    @property
    def env(self) -> dict[str, str]:
        return dict(text.split("=", 1) for text in self.run.get("Env") or ())

    def tree(self) -> dict[str, Member]:
        """The filesystem: whiteouts and opaque markers carried out."""
        merged: dict[str, Member] = {}
        for layer in self.layers:
            for path in [path for path in layer if "/.wh." in f"/{path}"]:
                folder, _, name = path.rpartition("/")
                prefix = f"{folder}/" if folder else ""
                if name == ".wh..wh..opq":
                    _drop(merged, prefix, below_only=True)
                else:
                    _drop(merged, prefix + name.removeprefix(".wh."), below_only=False)
            for path, member in layer.items():
                if "/.wh." not in f"/{path}":
                    if member.kind != "folder":
                        _drop(merged, path, below_only=False)
                    merged[path] = member
        return merged

    def text(self, path: str) -> str:
        return self.tree()[path].data.decode()


def read_image(layout: Path, name: str) -> ReadImage:
    """The image that a layout's index names so."""
    index = json.loads((layout / "index.json").read_bytes())
    found = [d for d in index["manifests"] if (d.get("annotations") or {}).get(REF_NAME) == name]
    assert len(found) == 1, f"{name} is not among {[d.get('annotations') for d in index['manifests']]}"
    return read_descriptor(layout, found[0])


def read_only_image(layout: Path) -> ReadImage:
    """The one image of a layout, whatever it is called."""
    index = json.loads((layout / "index.json").read_bytes())
    (found,) = {d["digest"]: d for d in index["manifests"]}.values()
    return read_descriptor(layout, found)


def read_archive(archive: Path, folder: Path) -> ReadImage:
    """The one image of an archive that holds a layout; unpacked into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    return read_only_image(folder)


def read_descriptor(layout: Path, descriptor: Json) -> ReadImage:
    """Read and check an image from its manifest's descriptor down to the last layer."""
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    manifest = json.loads(_blob(layout, descriptor))
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == descriptor["mediaType"]
    config = json.loads(_blob(layout, manifest["config"]))
    _check_config(config, manifest)
    layers = []
    for number, layer in enumerate(manifest["layers"]):
        tar = _decompressed(_blob(layout, layer), layer["mediaType"])
        assert "sha256:" + hashlib.sha256(tar).hexdigest() == config["rootfs"]["diff_ids"][number]
        layers.append(dict(_members(tar, number)))
    return ReadImage(descriptor["digest"], manifest, config, layers)


def _blob(layout: Path, descriptor: Json) -> bytes:
    algorithm, _, name = descriptor["digest"].partition(":")
    data = (layout / "blobs" / algorithm / name).read_bytes()
    assert hashlib.new(algorithm, data).hexdigest() == name
    assert len(data) == descriptor["size"]
    return data


def _check_config(config: Json, manifest: Json) -> None:
    assert config["rootfs"]["type"] == "layers"
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"])
    assert config["architecture"]
    assert config["os"] == "linux"
    history = config.get("history", [])
    assert sum(not entry.get("empty_layer", False) for entry in history) == len(manifest["layers"])
    times = [config.get("created"), *(entry.get("created") for entry in history)]
    for time in times:
        assert time is None or CREATED.fullmatch(time), time


def _decompressed(data: bytes, media_type: str) -> bytes:
    if media_type.endswith(("+gzip", ".gzip")):
        return gzip.decompress(data)
    if media_type.endswith("+zstd"):
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    assert media_type.endswith(".tar"), media_type
    return data


KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip


def _members(tar: bytes, number: int) -> Iterator[tuple[str, Member]]:
    """The members by normalised path; hard links as the file that they name, with `link` set."""
    seen: dict[str, Member] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:", errorlevel=2) as archive:
        for info in archive:
            path = info.name.removeprefix("./").rstrip("/") or "."
            assert not path.startswith("/"), path
            assert ".." not in path.split("/"), path
            assert path not in seen, f"twice in a layer: {path}"
            seen[path] = _member(archive, info, seen, number)
            yield path, seen[path]


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo, seen: dict[str, Member], number: int) -> Member:
    if info.islnk():
        target = info.linkname.removeprefix("./")
        assert target in seen, f"{info.name} is a hard link to {target}, which did not come before it"
        first = seen[target]
        return Member("file", first.mode, first.uid, first.gid, first.mtime, first.data, link=target,
                      capability=first.capability, layer=number)  # fmt: skip
    stream = archive.extractfile(info) if info.isreg() else None
    capability = info.pax_headers.get("SCHILY.xattr.security.capability", "")
    return Member(
        KINDS[info.type], info.mode, info.uid, info.gid, info.mtime,
        stream.read() if stream else b"", info.linkname, (info.devmajor, info.devminor),
        capability.encode("utf-8", "surrogateescape"), number,
    )  # fmt: skip


def _drop(merged: dict[str, Member], path: str, *, below_only: bool) -> None:
    prefix = path if below_only else f"{path}/"
    for known in [
        known for known in merged if known.startswith(prefix) or (known == path and not below_only)
    ]:
        del merged[known]
