"""Small image layouts made by hand with the standard library: what tests pull, load and break."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.oci import spec

Row = dict[str, Any]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class LayoutMaker:
    """A layout that is being made. `entries` are index.json's, written by `save`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.entries: list[Row] = []
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.save()

    def save(self) -> None:
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.entries}))

    def path(self, digest: str) -> Path:
        return self.blobs / digest.removeprefix("sha256:")

    def blob(self, data: bytes, media_type: str) -> Row:
        digest = digest_of(data)
        self.path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def document(self, value: object, media_type: str) -> Row:
        return self.blob(json.dumps(value).encode(), media_type)

    def layer(self, files: Mapping[str, bytes]) -> tuple[Row, str]:
        tar = make_tar(files)
        return self.blob(gzip.compress(tar, mtime=0), spec.OCI_LAYER_GZIP), digest_of(tar)

    def image(
        self,
        layers: Sequence[Mapping[str, bytes]] = ({"etc/hello": b"hello\n"},),
        *,
        platform: str = "linux/amd64",
        tag: str | None = None,
        config: Mapping[str, Any] | None = None,
        **run: Any,
    ) -> Row:
        """An image; with a tag it is in index.json."""
        made = [self.layer(files) for files in layers]
        system, architecture, *variant = platform.split("/")
        described = {
            "architecture": architecture,
            "os": system,
            **({"variant": variant[0]} if variant else {}),
            "config": {"Cmd": ["/bin/sh"], "Env": None, **run},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
            "history": [{"created_by": f"layer {number}"} for number in range(len(made))],
            **(config or {}),
        }
        row = self.document(
            {
                "schemaVersion": 2,
                "mediaType": spec.OCI_MANIFEST,
                "config": self.document(described, spec.OCI_CONFIG),
                "layers": [descriptor for descriptor, _ in made],
            },
            spec.OCI_MANIFEST,
        )
        if tag is not None:
            self.name(row, tag)
        return row

    def index(self, images: Mapping[str, Row], tag: str | None = None) -> Row:
        """An index of images by their platforms."""
        manifests = []
        for platform, row in images.items():
            system, architecture, *variant = platform.split("/")
            told = {"os": system, "architecture": architecture}
            manifests.append({**row, "platform": {**told, **({"variant": variant[0]} if variant else {})}})
        row = self.document(
            {"schemaVersion": 2, "mediaType": spec.OCI_INDEX, "manifests": manifests}, spec.OCI_INDEX
        )
        if tag is not None:
            self.name(row, tag)
        return row

    def name(self, row: Row, tag: str, **annotations: str) -> None:
        self.entries.append({**row, "annotations": {spec.REF_NAME: tag, **annotations}})
        self.save()

    def manifest(self, row: Row) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path(row["digest"]).read_bytes())
        return found
