"""The images of the local store: what `pybuild images, tag, rmi, history, inspect and load` do.

Each function takes an opened store and returns plain values in docker's shapes; nothing is printed. An
image is named as people type it: a reference, an id (of its config, as docker has it) or a digest (of its
manifest), whole or its beginning.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from builder import digest as digests
from builder.digest import Digest
from builder.errors import ImageError, StoreError, UsageError
from builder.oci import documents, reference
from builder.oci.held import choose_held, images_of
from builder.oci.names import Names, Row, name_of, read_pulled, stored_name
from builder.oci.reference import InvalidReference, Reference
from builder.oci.spec import History, ImageConfig, Index, Manifest, Platform
from builder.prepare import machine_platform
from builder.store import locks
from builder.store.gc import Removed, remove_unreferenced
from builder.store.leases import leased
from builder.store.root import Store

if TYPE_CHECKING:
    pass

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")
_CONFIG = {
    "User": "", "Env": None, "Entrypoint": None, "Cmd": None, "Volumes": None, "WorkingDir": "",
    "Labels": None, "OnBuild": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `pybuild images`. name, repository and tag are None for a dangling image.

    id is the config's digest, digest the manifest's; size is compressed bytes; created is RFC 3339, "" if
    not known. damaged: its documents are not all there, and id, created and platform are empty.
    """

    name: str | None
    repository: str | None
    tag: str | None
    id: str
    digest: str
    created: str
    size: int
    platform: str
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that came out of an archive: its names (none: it is dangling) and its manifest's digest."""

    names: tuple[str, ...]
    digest: str


def list_images(store: Store, wanted: str | None = None) -> list[Listed]:
    """All images, newest first; with `wanted` those of that repository, or that name."""
    listed = [_listed(store, row) for row in Names(store).rows()]
    if wanted is not None:
        name = reference.parse(wanted)
        with_tag = ":" in wanted.rpartition("/")[2]
        listed = [
            image
            for image in listed
            if (image.name == stored_name(name) if with_tag else image.repository == name.familiar_name())
        ]
    return sorted(listed, key=lambda image: image.created, reverse=True)


def tag(store: Store, source: str, targets: Sequence[str]) -> None:
    """Give an image more names. Raises ImageError if it is not there, UsageError for a bad name."""
    names = [_target(text) for text in targets]
    row, _ = find(store, source)
    Names(store).add(row, names)


def remove(store: Store, wanted: Iterable[str], *, force: bool = False) -> list[dict[str, str]]:
    """Remove names, and images that lose their last one: [{"Untagged": name} | {"Deleted": digest}].

    An id stands for all names of its image; with several it needs `force`. Blobs that other images or the
    cache need stay. Raises ImageError at the first that is not there.
    """
    done: list[dict[str, str]] = []
    for text in wanted:
        done += _remove_one(store, text, force=force)
    return done


def history(store: Store, wanted: str) -> list[dict[str, Any]]:
    """How the image came to be, newest first, as docker's API has it; Size is compressed bytes."""
    row, manifest = find(store, wanted)
    config = _config(store, manifest, wanted)
    sizes = iter(layer.size for layer in manifest.layers)
    lines = [_history_line(entry, 0 if entry.empty_layer else next(sizes, 0)) for entry in config.history]
    lines.reverse()
    if lines:
        lines[0]["Id"] = manifest.config.digest
        lines[0]["Tags"] = _names_of(store, row["digest"]) or None
    return lines


def inspect(store: Store, wanted: str) -> dict[str, Any]:
    """The image as `docker image inspect` tells it."""
    row, manifest = find(store, wanted)
    config = _config(store, manifest, wanted)
    names = _names_of(store, row["digest"])
    repositories = {reference.parse(name).familiar_name(): None for name in names}
    described: dict[str, Any] = {
        "Id": manifest.config.digest,
        "RepoTags": names,
        "RepoDigests": [f"{name}@{row['digest']}" for name in repositories],
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": _size(manifest),
        "RootFS": {"Type": "layers", "Layers": list(config.rootfs.diff_ids)},
        "Config": {**_CONFIG, **msgspec.json.decode(msgspec.json.encode(config.config))},
        "Descriptor": {key: row[key] for key in ("mediaType", "digest", "size") if key in row},
    }
    if config.variant:
        described["Variant"] = config.variant
    if manifest.annotations:
        described["Annotations"] = manifest.annotations
    return described


def load(store: Store, archive: str, platform: Platform) -> list[Loaded]:
    """Take the images out of an archive (a path, or "-" for standard input) into the store, with their names.

    Raises ImageError where the archive is at fault.
    """
    from builder.oci.archive import load as load_archive

    stream, name = _open_archive(archive)
    with stream, locks.shared(store.folder, locks.BUILDS), leased(store):
        found = load_archive(stream, store.blobs, platform, name)
        names = Names(store)
        for image in found:
            names.add(msgspec.to_builtins(image.descriptor), image.names)
    return [Loaded(tuple(stored_name(n) for n in image.names), image.descriptor.digest) for image in found]


def find(store: Store, wanted: str, platform: Platform | None = None) -> tuple[Row, Manifest]:
    """The image that a text names: its entry in the store's table and its manifest. Raises ImageError.

    Where the entry is an index, the manifest is that of the image in it for `platform`; without one, of that
    for this machine, else of the first that the store has. The row is the index's in any case. Attestations
    are never taken. An image that is there for other platforms only is an error with the code
    "platform-not-found", which says for which it is there. `oci.held.images_of` gives all images of a row.
    """
    row = _find_row(store, wanted)
    return row, choose_held(images_of(store.blobs, row, wanted), platform, this_machine(), wanted).manifest


def this_machine() -> Platform:
    """The platform of this machine."""
    architecture, variant = machine_platform()
    return Platform(architecture, "linux", variant)


def live_blobs(store: Store) -> set[Digest]:
    """All blobs that images, remembered references and layers need."""
    from builder.snapshots.layers import LayerStore

    rows = [*Names(store).rows(), *read_pulled(store.folder).values()]
    live = {digest for row in rows for digest in _blobs_of(store, row)}
    layers = LayerStore(store.root / "layers", store.blobs)
    for layer in layers.all():
        live.update(layers.blob_digests(layer))
    return live


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────


def _find_row(store: Store, wanted: str) -> Row:
    names = Names(store)
    rows = names.rows()
    by_id = _ID.fullmatch(wanted)
    try:
        name = reference.parse(wanted)
    except InvalidReference:
        if by_id is None:
            raise
        name = None
    if name is not None:
        row = _by_digest(rows, name.digest) if name.digest else names.find(name)
        if row is not None:
            return row
    if by_id is not None and (row := _by_id(store, rows, by_id[1], wanted)) is not None:
        return row
    raise ImageError(
        f"image {wanted} is not in the store", code="image-not-found", hint=_nearest(wanted, rows)
    )


def _by_digest(rows: Sequence[Row], digest: Digest) -> Row | None:
    return next((row for row in rows if row["digest"] == digest), None)


def _by_id(store: Store, rows: Sequence[Row], prefix: str, wanted: str) -> Row | None:
    """The one image whose manifest's or config's digest begins like this."""
    found: dict[str, Row] = {}
    for row in rows:
        known = [row["digest"]]
        with contextlib.suppress(ImageError, StoreError):  # damaged: still named by its manifest's digest
            known.append(_manifest(store, row, wanted).config.digest)
        if any(digest.startswith(f"sha256:{prefix}") for digest in known):
            found.setdefault(row["digest"], row)
    if len(found) > 1:
        raise ImageError(
            f"id {wanted} is the beginning of {len(found)} images",
            code="ambiguous-image",
            hint="give more of it",
        )
    return next(iter(found.values()), None)


def _nearest(wanted: str, rows: Sequence[Row]) -> str | None:
    known = sorted({name for row in rows if (name := name_of(row)) is not None})
    near = difflib.get_close_matches(wanted, known, 3, 0.5)
    return f"did you mean {' or '.join(near)}?" if near else None


def _target(text: str) -> Reference:
    try:
        name = reference.parse(text)
    except InvalidReference as error:
        raise UsageError(error.message, hint=error.hint) from error
    if name.digest is not None:
        raise UsageError(f"{text} cannot be given as a name: a digest is not chosen")
    return name


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def _manifest(store: Store, row: Row, name: str) -> Manifest:
    return choose_held(images_of(store.blobs, row, name), None, this_machine(), name).manifest


def _config(store: Store, manifest: Manifest, name: str) -> ImageConfig:
    data = store.blobs.read(digests.parse(manifest.config.digest), documents.MAX_CONFIG)
    return documents.parse_config(data, name)


def _size(manifest: Manifest) -> int:
    """Compressed bytes of config and layers."""
    return manifest.config.size + sum(layer.size for layer in manifest.layers)


def _listed(store: Store, row: Row) -> Listed:
    name = name_of(row)
    named = _split(name)
    try:
        manifest = _manifest(store, row, name or row["digest"])
        config = _config(store, manifest, name or row["digest"])
    except (ImageError, StoreError):
        return Listed(name, *named, "", row["digest"], "", row["size"], "", damaged=True)
    platform = "/".join(part for part in (config.os, config.architecture, config.variant) if part)
    return Listed(
        name, *named, manifest.config.digest, row["digest"], config.created, _size(manifest), platform
    )


def _split(name: str | None) -> tuple[str | None, str | None]:
    if name is None:
        return None, None
    repository, _, found = name.rpartition(":")
    return repository, found


def _names_of(store: Store, digest: str) -> list[str]:
    rows = Names(store).rows()
    return [name for row in rows if row["digest"] == digest and (name := name_of(row)) is not None]


def _history_line(entry: History, size: int) -> dict[str, Any]:
    return {
        "Id": "<missing>",
        "Created": entry.created,
        "CreatedBy": entry.created_by,
        "Size": size,
        "Comment": entry.comment,
        "Tags": None,
    }


def _open_archive(archive: str) -> tuple[Any, str]:
    import os
    import sys

    if archive == "-":
        if sys.stdin.isatty():
            raise UsageError("an archive is not read from a terminal", hint="name a file with --input")
        return open(os.dup(0), "rb"), "the archive on standard input"
    try:
        return open(archive, "rb"), archive
    except OSError as error:
        raise ImageError(
            f"archive {archive} cannot be read: {(error.strerror or '').lower()}", code="archive-not-found"
        ) from error


# ── removing ─────────────────────────────────────────────────────────────────────────────────────────────


def _remove_one(store: Store, wanted: str, *, force: bool) -> list[dict[str, str]]:
    try:
        row = _find_row(store, wanted)
    except ImageError:
        if forgotten := _forget(store, wanted):
            return forgotten
        raise
    names = Names(store)
    held = _names_of(store, row["digest"])
    blobs = _blobs_of(store, row)
    named = _as_name(wanted)
    if named is not None and stored_name(named) in held and named.digest is None:
        names.untag(named)
        done = [{"Untagged": stored_name(named)}]
        if len(held) > 1:
            return done
    else:
        if len(held) > 1 and not force:
            raise ImageError(
                f"image {wanted} has several names: {', '.join(held)}",
                code="image-has-names",
                hint="remove them one by one, or use --force",
            )
        names.remove(digests.parse(row["digest"]))
        done = [{"Untagged": name} for name in held]
    return done + _deleted(row, _sweep(store, blobs))


def _forget(store: Store, wanted: str) -> list[dict[str, str]]:
    """A base image that has no name in the store, but whose reference is remembered."""
    name = _as_name(wanted)
    if name is None or not (rows := Names(store).forget(str(name))):
        return []
    blobs = {digest for row in rows for digest in _blobs_of(store, row)}
    done = [{"Untagged": name.familiar()}]
    swept = _sweep(store, blobs)
    return done + [entry for row in rows for entry in _deleted(row, swept)]


def _sweep(store: Store, candidates: set[Digest]) -> Removed:
    return remove_unreferenced(store, sorted(candidates), lambda: live_blobs(store))


def _deleted(row: Row, swept: Removed) -> list[dict[str, str]]:
    """The manifest first, then its blobs; while a build runs, blobs stay for the next sweep."""
    first = [row["digest"]] if swept.busy or row["digest"] in swept.digests else []
    return [{"Deleted": digest} for digest in dict.fromkeys([*first, *swept.digests])]


def _as_name(text: str) -> Reference | None:
    try:
        return reference.parse(text)
    except InvalidReference:
        return None


def _blobs_of(store: Store, row: Row, depth: int = 0) -> set[Digest]:
    """All blobs of an image, those of an index's images included; what is missing or damaged has none.

    Raises StoreError where the disk or a limit is in the way: what is there needs what it needs.
    """
    try:
        digest = digests.parse(row["digest"])
        data = store.blobs.read(digest, documents.MAX_MANIFEST)
        document = documents.parse_manifest_or_index(data, "", row["digest"])
    except StoreError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            raise
        return set()
    except (ImageError, ValueError):
        return set()
    found = {digest}
    if isinstance(document, Index):
        for child in document.manifests if depth < 3 else ():
            found |= _blobs_of(store, {"digest": child.digest, "size": child.size}, depth + 1)
        return found
    return found | {digests.parse(d.digest) for d in (document.config, *document.layers)}
