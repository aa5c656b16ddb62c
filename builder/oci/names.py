"""The names of the local store's images: ROOT/index.json, which other tools read as an image layout's.

A name is the familiar one with its tag (`app:1.0`); an image without a name (dangling) has an entry
without one. ROOT/cache/pulled.json remembers what references meant in their registries, so that a name
that was resolved once needs no network. Both change under one lock, by rename, after a barrier of the
blobs, so no name is ahead of its image. ROOT/cache/names is a copy of index.json with its sum, by which
`fsck` mends that: others read it, so it holds none itself. Plain data and json: this is on the path of a
fully cached build.
"""

from __future__ import annotations

import os

from builder import plainjson
from builder.digest import sha256_of
from builder.errors import StoreError
from builder.fs.whole import write_whole
from builder.store import locks
from builder.store.failure import told_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from builder.digest import Digest
    from builder.oci.reference import Reference
    from builder.store.root import Store

    Row = dict[str, Any]  # a descriptor as plain JSON data
else:
    Row = dict

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
CREATED = "org.opencontainers.image.created"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MAX_INDEX = 64 << 20
COPY = os.path.join("cache", "names")


def name_of(row: Row) -> str | None:
    """The name in an index.json entry of the store, or None for a dangling image."""
    name = (row.get("annotations") or {}).get(REF_NAME)
    return name if isinstance(name, str) else None


def stored_name(reference: Reference) -> str:
    """The name under which an image of this reference is kept: with the digest, where there is no tag."""
    is_pinned = reference.tag is None and reference.digest is not None
    return (reference if is_pinned else reference.without_digest()).familiar()


class Names:
    """The table of names of an opened store. Every method may raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self) -> list[Row]:
        """All entries, oldest first; see `name_of`."""
        return read_rows(self._store.folder)

    def find(self, reference: Reference) -> Row | None:
        """The entry of that name."""
        wanted = stored_name(reference)
        return next((row for row in self.rows() if name_of(row) == wanted), None)

    def add(self, row: Row, names: Iterable[Reference] = ()) -> None:
        """Give an image its names, each taken from whatever had it; without names keep it as dangling.

        row: mediaType, digest, size, and its platform where it is a single image.
        """
        with locks.exclusive(self._store.folder, locks.INDEX):
            before = self.rows()
            after = with_image(before, row, [stored_names(name) for name in names])
            # A cached build that names what is named already writes, and waits for, nothing.
            if len(before) != len(after) or any(new not in before for new in after):
                self._write_index(after)

    def untag(self, reference: Reference) -> Row | None:
        """Take a name away; returns the entry it had, or None if nothing has it.

        An image that loses its last name this way is gone from the table.
        """
        wanted = stored_name(reference)
        with locks.exclusive(self._store.folder, locks.INDEX):
            rows = self.rows()
            found = next((row for row in rows if name_of(row) == wanted), None)
            if found is not None:
                self._write_index([row for row in rows if row is not found])
        return found

    def remove(self, digest: Digest) -> int:
        """Take an image and all its names away; returns how many entries it had."""
        with locks.exclusive(self._store.folder, locks.INDEX):
            rows = self.rows()
            kept = [row for row in rows if row["digest"] != digest]
            if len(kept) != len(rows):
                self._write_index(kept)
        return len(rows) - len(kept)

    def remember(self, locator: str, platform: str, row: Row) -> None:
        """Remember which manifest a reference meant for a platform."""
        with locks.exclusive(self._store.folder, locks.INDEX):
            table = read_pulled(self._store.folder)
            if table.get(_key(locator, platform)) != row:
                table[_key(locator, platform)] = row
                self._write_pulled(table)

    def recall(self, locator: str, platform: str) -> Row | None:
        """The manifest that was remembered."""
        return read_pulled(self._store.folder).get(_key(locator, platform))

    def forget(self, locator: str) -> list[Row]:
        """Forget a reference for all platforms; returns what it meant."""
        with locks.exclusive(self._store.folder, locks.INDEX):
            table = read_pulled(self._store.folder)
            gone = {key: row for key, row in table.items() if key.rpartition(" ")[0] == locator}
            if gone:
                self._write_pulled({key: row for key, row in table.items() if key not in gone})
        return list(gone.values())

    def forget_image(self, digest: str) -> None:
        """Forget all references that mean an image."""
        with locks.exclusive(self._store.folder, locks.INDEX):
            table = read_pulled(self._store.folder)
            kept = {key: row for key, row in table.items() if row["digest"] != digest}
            if len(kept) != len(table):
                self._write_pulled(kept)

    def _write_index(self, rows: Sequence[Row]) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(rows)}
        self._replace("index.json", document)
        _keep_copy(self._store.folder, document)

    def _write_pulled(self, table: dict[str, Row]) -> None:
        self._replace(os.path.join("cache", "pulled.json"), table)

    def _replace(self, name: str, document: object) -> None:
        from builder.store.ingest import make_file

        self._store.blobs.barrier()
        folder = self._store.folder
        path = os.path.join(folder, name)
        with told_as(folder, f"writing {name}"):
            temporary, fd = make_file(folder, "index")
            with open(fd, "wb") as file:
                try:
                    file.write(plainjson.dumps(document, compact=True).encode())
                    file.flush()
                    os.fsync(fd)
                    os.rename(temporary, path)  # while it is held
                except BaseException:
                    if os.path.exists(temporary):
                        os.unlink(temporary)
                    raise
            _sync(os.path.dirname(path))


def stored_names(reference: Reference) -> dict[str, str]:
    """The annotations of an entry: the familiar name for people and skopeo, the full one for containerd.

    One of a digest and no tag (`app@sha256:…`) is kept with it.
    """
    is_pinned = reference.tag is None and reference.digest is not None
    full = reference if is_pinned else reference.without_digest()
    return {REF_NAME: full.familiar(), IMAGE_NAME: str(full)}


def with_image(rows: Sequence[Row], row: Row, names: Sequence[dict[str, str]]) -> list[Row]:
    """The table with an image added under these names (as annotations). Pure."""
    taken = {name[REF_NAME] for name in names}
    bare = {key: value for key, value in row.items() if key != "annotations"}
    kept = [r for r in rows if name_of(r) not in taken]
    # Who lost the last name to the newcomer stays, dangling.
    held = {r["digest"] for r in kept} | {row["digest"]}
    for robbed in (r for r in rows if name_of(r) in taken):
        if robbed["digest"] not in held:
            held.add(robbed["digest"])
            kept.append({key: value for key, value in robbed.items() if key != "annotations"})
    if names:
        kept = [r for r in kept if r["digest"] != row["digest"] or name_of(r) is not None]
        return kept + [{**bare, "annotations": name} for name in names]
    return kept if any(r["digest"] == row["digest"] for r in kept) else [*kept, bare]


def read_rows(folder: str) -> list[Row]:
    """The entries of a store's index.json, checked as far as this module relies on them."""
    document = _read(folder, "index.json")
    rows = document.get("manifests")
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise _damaged(folder, "index.json")
    return rows


def read_pulled(folder: str) -> dict[str, Row]:
    """The table of remembered references; a damaged one is an empty one, as it can be had again."""
    try:
        table = _read(folder, os.path.join("cache", "pulled.json"))
    except StoreError as error:
        if error.code != "store-damaged":
            raise
        return {}
    return {key: row for key, row in table.items() if _is_row(row)}


def _key(locator: str, platform: str) -> str:
    return f"{locator} {platform}"


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("digest"), str):
        return False
    return isinstance(row.get("annotations") or {}, dict) and isinstance(row.get("size"), int)


def _read(folder: str, name: str) -> dict[str, Any]:
    with told_as(folder, f"reading {name}"):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read(MAX_INDEX)
        except FileNotFoundError:
            return {}
    try:
        document = plainjson.loads(data)
    except (ValueError, RecursionError):
        raise _damaged(folder, name) from None
    if not isinstance(document, dict):
        raise _damaged(folder, name)
    return document


def read_copy(folder: str) -> list[Row] | None:
    """The entries as they were written last by this program; None where that is not known for sure."""
    copied = _copied(folder)
    return copied[0] if copied is not None else None


def is_copied(folder: str) -> bool:
    """Whether the copy is one of the very file that is there now: a build that ended in between, or a power
    cut, leaves that of an earlier one, which tells nothing of this.
    """
    copied = _copied(folder)
    try:
        return copied is not None and os.stat(os.path.join(folder, "index.json")).st_ino == copied[1]
    except OSError:
        return False


def _copied(folder: str) -> tuple[list[Row], int] | None:
    """The entries of the copy, and the inode of the file that it is of."""
    try:
        with open(os.path.join(folder, COPY), "rb") as file:
            data, _, told = file.read(MAX_INDEX).partition(b"\n")
        rows: list[Row] = plainjson.loads(data)["manifests"]
        inode = int(told.partition(b" ")[2])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return (rows, inode) if told == _copy_line(data, inode) else None


def _copy_line(data: bytes, inode: int) -> bytes:
    return f"{sha256_of(data + b'%d' % inode).hex()} {inode}".encode("ascii")


def _keep_copy(folder: str, document: object) -> None:
    """Keep what index.json holds once more, with its sum: for who mends it. Where it cannot be, it is not,
    nor an older one: a later index.json may get the inode of that one's.
    """
    data, path = plainjson.dumps(document, compact=True).encode(), os.path.join(folder, COPY)
    try:
        inode = os.stat(os.path.join(folder, "index.json")).st_ino
        write_whole(path, data + b"\n" + _copy_line(data, inode))
    except OSError:
        try:
            os.unlink(path)
        except OSError:
            return


def _damaged(folder: str, name: str) -> StoreError:
    return StoreError(
        f"{os.path.join(folder, name)} is damaged",
        code="store-damaged",
        hint="`pybuild fsck --repair` mends it",
    )


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
