"""Images of the store into one archive that others read: `pybuild save`.

An OCI layout (image-layout.md) with docker's manifest.json over the same blobs, as `docker save` writes them
since version 25: older readers take manifest.json, newer ones the index. An image of several platforms is
whole in the index, and in manifest.json one of its images. Archives depend on images and names alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from builder import digest as digests
from builder.errors import ImageError
from builder.exporters.destination import Destination
from builder.exporters.oci import MARKER, blob_files, blob_path, encode, write_archive
from builder.images.find import find_row, image_of, names_of
from builder.images.whole import read_whole
from builder.oci import reference
from builder.oci.finished import Finished
from builder.oci.names import IMAGE_NAME, INDEX_TYPE, REF_NAME, Names, Row, name_of
from builder.oci.reference import InvalidReference, Reference
from builder.oci.spec import Platform
from builder.store import locks
from builder.store.leases import leased
from builder.store.root import Store


@dataclass(frozen=True, slots=True)
class _Taken:
    """An image that goes into the archive: all of it, what docker's manifest.json has of it, its names."""

    image: Finished
    shown: Finished
    names: tuple[Reference, ...]


def save(store: Store, wanted: Sequence[str], dest: str, platform: Platform | None = None) -> None:
    """Write images, and all their names that were asked for, as an archive to a file, or to "-".

    A repository without a tag stands for all that are tagged in it, as docker has it; an id for an image
    without a name. platform: of images of several, that one alone. What was in the file stays where this
    fails. Raises ImageError for an image that is not there, BuildError where the file cannot be written.
    """
    with locks.shared(store.folder, locks.BUILDS), leased(store):
        taken: dict[str, _Taken] = {}
        for text in wanted:
            for row, names in _asked(store, text):
                one = _take(store, row, names, text, platform)
                known = taken.get(one.image.digest)
                merged = dict.fromkeys((*(known.names if known else ()), *one.names))
                taken[one.image.digest] = _Taken(one.image, one.shown, tuple(merged))
        images = list(taken.values())
        _check_layers(store, images)
        files: dict[str, bytes | str] = {}
        for each in images:
            files.update(blob_files(each.image))
        files["index.json"] = encode(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "manifests": [row for each in images for row in _rows(each)],
            }
        )
        files["manifest.json"] = encode([_listed(each) for each in images])
        files["oci-layout"] = MARKER
        with Destination(dest) as out:
            write_archive(list(files.items()), store.blobs, out)


def _asked(store: Store, text: str) -> list[tuple[Row, list[Reference]]]:
    """What a text asks for: entries, and the names that go along with them: those with tags."""
    try:
        name = reference.parse(text)
    except InvalidReference:
        return [(find_row(store, text), [])]  # an id
    has_tag = ":" in text.rpartition("/")[2]
    if not has_tag and name.digest is None:
        tagged = [(row, reference.parse(known)) for row, known in _named_rows(store)]
        found = [(row, [known] if known.tag else []) for row, known in tagged if known.name == name.name]
        if found:
            return found
    row = find_row(store, text)
    is_name = name.tag is not None and name.familiar() in names_of(store, row["digest"])
    return [(row, [name] if is_name else [])]


def _named_rows(store: Store) -> list[tuple[Row, str]]:
    return [(row, name) for row in Names(store).rows() if (name := name_of(row)) is not None]


def _take(store: Store, row: Row, names: Sequence[Reference], text: str, platform: Platform | None) -> _Taken:
    found = image_of(store, row, text, platform)
    shown = read_whole(store, msgspec.to_builtins(found.descriptor), text)
    whole = shown if platform is not None or not found.is_in_index else read_whole(store, row, text)
    return _Taken(whole, shown, tuple(names))


def _check_layers(store: Store, taken: Sequence[_Taken]) -> None:
    """Raise ImageError before anything is written, if a layer is not in the store."""
    for each in taken:
        for layer in each.image.all_layers():
            if store.blobs.stat(digests.parse(layer)) is None:
                name = each.names[0].familiar() if each.names else each.image.digest
                raise ImageError(
                    f"layer {layer} of {name} is not in the store",
                    code="blob-not-found",
                    hint="pull the image, or choose one of its platforms with --platform",
                )


def _rows(taken: _Taken) -> list[Row]:
    """The image's entries in index.json, one per name."""
    names = [{IMAGE_NAME: str(name), REF_NAME: name.tag or "latest"} for name in taken.names]
    row = taken.image.row
    first = {key: row[key] for key in ("mediaType", "digest", "size")}
    rest = {"platform": row["platform"]} if row.get("platform") else {}
    return [{**first, **({"annotations": each} if each else {}), **rest} for each in names or [{}]]


def _listed(taken: _Taken) -> dict[str, object]:
    """The image's entry in manifest.json."""
    return {
        "Config": blob_path(taken.shown.config),
        "RepoTags": [name.familiar() for name in taken.names],
        "Layers": [blob_path(layer) for layer in taken.shown.layers],
    }
