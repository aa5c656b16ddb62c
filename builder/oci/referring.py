"""What refers to an image, brought to a registry beside it, with what others have put there kept.

    OCI distribution-spec 1.1, "Pushing Manifests with Subject"; cosign's specs/SIGNATURE_SPEC.md

A registry that has the referrers API lists artifacts by itself. Where it has none, an index under a tag made
of the image's digest does: what it lists already stays in it. Signatures are layers of one manifest under
such a tag: those that are there stay, too. Who writes at the same time may still lose, as registries have no
locks.
"""

from __future__ import annotations

from typing import Any

import msgspec

from builder import digest as digests
from builder.errors import ImageError
from builder.oci import documents, spec
from builder.oci.beside import subject_of
from builder.oci.parcel import Blob, Document, Parcel
from builder.oci.reference import Reference
from builder.oci.registry import Registry
from builder.oci.spec import Index, Manifest
from builder.oci.transport import Transport

Json = dict[str, Any]


class Referring:
    """Finds out what is to be pushed beside an image. The transport is not closed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._registry = Registry(transport)

    async def parcels(
        self, where: Reference, parcel: Parcel
    ) -> list[tuple[Reference, Parcel, dict[str, bytes]]]:
        """What to push for a parcel under a tag of `oci.beside`: (name, parcel, bytes of new configs) each.

        Raises ImageError where the registry cannot be asked.
        """
        if len(parcel.levels) > 1 and await self._lists_referrers(where):
            return [(_pinned(where, one), _alone(one, parcel), {}) for one in parcel.documents()[:-1]]
        theirs = await self._there(where)
        if theirs is None or digests.of_bytes(theirs) == parcel.root.digest:
            return [(where, parcel, {})]
        if len(parcel.levels) > 1:
            root = merge_indexes(theirs, parcel.root.data)
            return [(where, _with_root(parcel, root), {})]
        root, config = merge_signatures(theirs, parcel.root.data)
        added = Blob(spec.OCI_CONFIG, digests.of_bytes(config), len(config))
        merged = _with_root(parcel, root)
        return [(where, merged.but(blobs=(*merged.blobs, added)), {added.digest: config})]

    async def _lists_referrers(self, where: Reference) -> bool:
        """Whether the registry has the referrers API: who has answers for any digest."""
        subject = subject_of(where.tag or "")
        path = f"{where.repository}/referrers/{subject}"
        scope = f"repository:{where.repository}:pull"
        async with self._transport.open(where.registry, "GET", path, scope) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip()
            return response.status_code == 200 and kind == spec.OCI_INDEX

    async def _there(self, where: Reference) -> bytes | None:
        """The document that a tag means now."""
        if await self._registry.digest_of(where) is None:
            return None
        return (await self._registry.manifest(where)).data


def merge_indexes(theirs: bytes, ours: bytes) -> bytes:
    """An index of all that two of them list; what cannot be read is as if it listed nothing."""
    rows = {row["digest"]: row for row in [*_rows(theirs, "manifests"), *_rows(ours, "manifests")]}
    document = msgspec.json.decode(ours, type=dict[str, Any])
    return msgspec.json.encode({**document, "manifests": list(rows.values())})


def merge_signatures(theirs: bytes, ours: bytes) -> tuple[bytes, bytes]:
    """A manifest of all the signatures of two of them, and its config."""
    layers: dict[str, Json] = {}
    for row in [*_rows(theirs, "layers"), *_rows(ours, "layers")]:
        layers.setdefault(msgspec.json.encode([row["digest"], row.get("annotations")]).decode(), row)
    document = msgspec.json.decode(ours, type=dict[str, Any])
    config = {
        "architecture": "",
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [row["digest"] for row in layers.values()]},
        "config": {},
    }
    data = msgspec.json.encode(config)
    told = {"mediaType": spec.OCI_CONFIG, "size": len(data), "digest": digests.of_bytes(data)}
    return msgspec.json.encode({**document, "config": told, "layers": list(layers.values())}), data


def _rows(data: bytes, field: str) -> list[Json]:
    try:
        document = documents.parse_manifest_or_index(data, "", "what is there", further=None)
    except ImageError:
        return []
    if isinstance(document, Index) and field == "manifests":
        found: list[Json] = msgspec.to_builtins(document.manifests)
        return list(found)
    if isinstance(document, Manifest) and field == "layers":
        found = msgspec.to_builtins(document.layers)
        return list(found)
    return []


def _with_root(parcel: Parcel, data: bytes) -> Parcel:
    root = Document(parcel.root.media_type, digests.of_bytes(data), data)
    return parcel.but(levels=(*parcel.levels[:-1], (root,)))


def _pinned(where: Reference, document: Document) -> Reference:
    return Reference(where.registry, where.repository, None, document.digest)


def _alone(document: Document, parcel: Parcel) -> Parcel:
    """One artifact of an index, with the blobs that are its own."""
    manifest = msgspec.json.decode(document.data, type=dict[str, Any])
    named = {row["digest"] for row in [manifest["config"], *manifest["layers"]]}
    blobs = tuple(blob for blob in parcel.blobs if blob.digest in named)
    return parcel.but(levels=((document,),), blobs=blobs)
