"""Images put into a store of a test's own, and tars with whatever members a test wants."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.oci import reference, spec
from builder.oci.names import Names
from builder.store.root import Store
from tests.support.layouts import LayoutMaker, Row, digest_of

Member = tuple[str, Mapping[str, Any]]


def add_image(store: Store, layout: LayoutMaker, row: Row, *names: str) -> Row:
    """Bring all blobs of a layout into a store, and name one of its images there."""
    for path in layout.blobs.iterdir():
        store.blobs.put(path.read_bytes())
    Names(store).add(row, [reference.parse(name) for name in names])
    return row


def tar_of(*members: Member) -> bytes:
    """A tar; a member is its name and the fields of its TarInfo, `data` being its bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, fields in members:
            info = tarfile.TarInfo(name)
            data = bytes(fields.get("data", b""))
            info.size = len(data)
            for field, value in fields.items():
                if field != "data":
                    setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def image_of_tars(
    layout: LayoutMaker, tars: Sequence[bytes], *, steps: Sequence[str] = (), **run: Any
) -> Row:
    """An image of layers that are given as tars; steps: what the history calls them."""
    layers = [layout.blob(gzip.compress(tar, mtime=0), spec.OCI_LAYER_GZIP) for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": step} for step in steps or [f"step {n}" for n in range(len(tars))]],
    }
    return layout.document(
        {
            "schemaVersion": 2,
            "mediaType": spec.OCI_MANIFEST,
            "config": layout.document(config, spec.OCI_CONFIG),
            "layers": layers,
        },
        spec.OCI_MANIFEST,
    )


def members_of(archive: Path) -> dict[str, bytes]:
    """The files of a tar by their names."""
    with tarfile.open(archive) as tar:
        return {
            info.name: file.read()
            for info in tar
            if info.isreg() and (file := tar.extractfile(info)) is not None
        }


def documents_of(archive: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(entries of index.json, entries of manifest.json) of an image archive."""
    members = members_of(archive)
    return json.loads(members["index.json"])["manifests"], json.loads(members["manifest.json"])
