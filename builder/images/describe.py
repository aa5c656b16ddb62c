"""What an image is and how it came to be, in the shapes of docker's API: `pybuild inspect` and `history`."""

from __future__ import annotations

from typing import Any

import msgspec

from builder import digest as digests
from builder.attest.statement import REFERENCE_DIGEST
from builder.images.find import (
    Found,
    entries_of,
    find_image,
    id_of,
    names_of,
    size_of,
)
from builder.oci import documents, reference
from builder.oci.held import is_attestation
from builder.oci.spec import Descriptor, History, Platform
from builder.store.root import Store

_CONFIG = {
    "User": "", "ExposedPorts": None, "Env": None, "Entrypoint": None, "Cmd": None, "Volumes": None,
    "WorkingDir": "", "Labels": None, "OnBuild": None, "StopSignal": "",
}  # fmt: skip


def history(store: Store, wanted: str, platform: Platform | None = None) -> list[dict[str, Any]]:
    """How the image came to be, newest first, as docker's API has it; Size is compressed bytes."""
    found = find_image(store, wanted, platform)
    sizes = iter(layer.size for layer in found.manifest.layers)
    lines = [
        _history_line(entry, 0 if entry.empty_layer else next(sizes, 0)) for entry in found.config.history
    ]
    lines.reverse()
    if lines:
        lines[0]["Id"] = id_of(found) if platform is None else found.manifest.config.digest
        lines[0]["Tags"] = names_of(store, found.row["digest"]) or None
    return lines


def inspect(store: Store, wanted: str, platform: Platform | None = None) -> dict[str, Any]:
    """The image as `docker image inspect` tells it.

    Of an image of several platforms: the index's id and descriptor, what it lists (Manifests), and all else
    of the machine's; with a platform, of that one image alone.
    """
    found = find_image(store, wanted, platform)
    config = found.config
    whole = found.is_in_index and platform is None
    names = sorted(names_of(store, found.row["digest"]))
    repositories = {reference.parse(name).familiar_name(): None for name in names}
    described: dict[str, Any] = {
        "Id": id_of(found) if whole else found.manifest.config.digest,
        "RepoTags": [name for name in names if "@" not in name],
        "RepoDigests": [f"{name}@{found.row['digest']}" for name in repositories],
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "DockerVersion": "",
        "Author": config.author,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size_of(found.manifest),
        "VirtualSize": size_of(found.manifest),
        "RootFS": {"Type": "layers", "Layers": list(config.rootfs.diff_ids)},
        "Config": {**_CONFIG, **msgspec.json.decode(msgspec.json.encode(config.config))},
        "Descriptor": _descriptor_of(found, whole=whole),
    }
    if config.variant:
        described["Variant"] = config.variant
    if config.os_version:
        described["OsVersion"] = config.os_version
    if found.manifest.annotations:
        described["Annotations"] = found.manifest.annotations
    if whole:
        described["Manifests"] = _listed(store, found, wanted)
    return described


def manifests(store: Store, wanted: str) -> list[dict[str, Any]]:
    """What an image is made of, by platform, as docker's API has it: what an index lists, or itself."""
    found = find_image(store, wanted)
    if found.is_in_index:
        return _listed(store, found, wanted)
    return [_summary(store, found.descriptor, wanted)]


def _descriptor_of(found: Found, *, whole: bool) -> dict[str, Any]:
    if whole or not found.is_in_index:
        return {key: found.row[key] for key in ("mediaType", "digest", "size") if key in found.row}
    plain: dict[str, Any] = msgspec.to_builtins(found.descriptor)
    return {key: plain[key] for key in ("mediaType", "digest", "size", "platform") if key in plain}


def _listed(store: Store, found: Found, wanted: str) -> list[dict[str, Any]]:
    """What an index lists, as docker's API has it."""
    return [_summary(store, entry, wanted) for entry in entries_of(store, found.row, wanted)]


def _summary(store: Store, entry: Descriptor, wanted: str) -> dict[str, Any]:
    there = store.blobs.stat(digests.parse(entry.digest)) is not None
    told: dict[str, Any] = {
        "ID": entry.digest,
        "Descriptor": msgspec.to_builtins(entry),
        "Available": there,
        "Kind": "unknown",
    }
    if is_attestation(entry):
        told["Kind"] = "attestation"
        told["AttestationData"] = {"For": entry.annotations.get(REFERENCE_DIGEST, "")}
    elif there and entry.media_type in documents.MANIFEST_TYPES:
        data = store.blobs.read(digests.parse(entry.digest), documents.MAX_MANIFEST)
        manifest = documents.parse_manifest(data, wanted, entry.media_type)
        told["Kind"] = "image"
        told["Available"] = all(
            store.blobs.stat(digests.parse(b.digest)) is not None for b in manifest.layers
        )
        told["Size"] = {"Content": size_of(manifest), "Total": size_of(manifest)}
        told["ImageData"] = {"Platform": msgspec.to_builtins(entry.platform)}
    return told


def _history_line(entry: History, size: int) -> dict[str, Any]:
    return {
        "Id": "<missing>",
        "Created": entry.created,
        "CreatedBy": entry.created_by,
        "Size": size,
        "Comment": entry.comment,
        "Tags": None,
    }
