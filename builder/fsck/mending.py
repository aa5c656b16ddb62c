"""Mending: what is damaged is taken away, so that it is made, or fetched, again.

Safe beside running builds: it is done while nobody can take anything into use (the lock `uses`). Of what a
running build holds only damaged files go, which are of no use to it; a damaged folder of a layer, which may
be mounted, stays and is told until it is checked again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.digest import Digest
from builder.errors import BuildError
from builder.fs.ownership import outer_uid
from builder.fs.whole import write_whole
from builder.fsck import blobs
from builder.fsck.finding import (
    DROP,
    DROP_LAYER,
    FORGET_IMAGE,
    FORGET_REFERENCE,
    RESTORE_NAMES,
    WRITE_LAYOUT,
    Finding,
)
from builder.fsck.names import image_problem
from builder.oci.names import INDEX_TYPE, Names, read_copy, read_pulled, read_rows
from builder.room.facts import read_records
from builder.snapshots import folders
from builder.store import leases, locks
from builder.store.failure import told_as
from builder.store.ingest import IngestFolder
from builder.store.root import FORMAT, LAYOUT

if TYPE_CHECKING:
    from builder.store.root import Store


def mend(store: Store, findings: Iterable[Finding]) -> list[Finding]:
    """Mend what can be mended now; the findings that are mended. Raises StoreError."""
    wanted, done = list(findings), []
    if not wanted:
        return []
    with told_as(store.folder, "mending"):
        os.makedirs(os.path.join(store.folder, "ingest"), 0o700, exist_ok=True)
        with IngestFolder(store.folder) as work:
            lock = leases.try_alone(store.folder)
            if lock is None:
                raise BuildError(
                    "a build does not let go of the store, so nothing was mended",
                    code="store-busy",
                    hint="try again when it has ended",
                )
            with lock:
                mender = _Mender(store, work.path)
                done = [finding for finding in wanted if mender.mend(finding)]
    return done


class _Mender:
    """Takes things away, into a folder that is removed afterwards."""

    def __init__(self, store: Store, work: str) -> None:
        self._store = store
        self._work = work
        self._count = 0
        self._held = leases.held_by_builds(store.folder)
        for layer in [name for name in self._held if ":" not in name]:
            base = folders.base_of(os.path.join(store.folder, "layers", layer))
            self._held |= {base} if base else set()

    def mend(self, finding: Finding) -> bool:
        """Mend one; False where it has to wait."""
        match finding.mend:
            case str(kind) if kind == DROP_LAYER:
                return self._drop_layer(finding.what)
            case str(kind) if kind == DROP:
                return self._drop(finding)
            case str(kind) if kind == FORGET_IMAGE:
                self._forget_image(finding.what)
            case str(kind) if kind == FORGET_REFERENCE:
                with locks.exclusive(self._store.folder, locks.INDEX):
                    self._forget(finding.what)
            case str(kind) if kind == RESTORE_NAMES:
                with locks.exclusive(self._store.folder, locks.INDEX):
                    self._restore_names()
            case str(kind) if kind == WRITE_LAYOUT:
                self._write("oci-layout", LAYOUT)
            case _:
                version = {"format": FORMAT, "uid": outer_uid()}
                self._write("VERSION", json.dumps(version).encode() + b"\n")
        return True

    def _drop_layer(self, layer: str) -> bool:
        """A layer, with the records that name it."""
        if layer in self._held:
            return False
        for record in read_records(self._store.folder):
            if layer in record.layers:
                name = record.key.removeprefix("sha256:")
                self._away(os.path.join("cache", "records", name[:2], name))
        self._away(os.path.join("layers", layer))
        return True

    def _drop(self, finding: Finding) -> bool:
        layer = finding.path.split("/")[1] if finding.kind == "layer" else ""
        if layer in self._held and os.path.isdir(os.path.join(self._store.folder, finding.path)):
            return False
        if finding.kind != "blob" or blobs.problem_of(self._store, os.path.basename(finding.path)):
            self._away(finding.path)  # else a build has written it anew
        return True

    def _forget_image(self, digest: str) -> None:
        """An image with all its names, unless a build has made it whole meanwhile."""
        names = Names(self._store)
        if any(image_problem(self._store, row, ()) for row in names.rows() if row["digest"] == digest):
            names.remove(Digest(digest))

    def _restore_names(self) -> None:
        """index.json from its copy, with what is in it and sound besides; empty where there is no copy."""
        rows = read_copy(self._store.folder)
        if rows is None:
            try:
                rows = read_rows(self._store.folder)
            except BuildError:
                rows = []
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": rows}
        self._write("index.json", json.dumps(document, separators=(",", ":")).encode())

    def _forget(self, key: str) -> None:
        table = read_pulled(self._store.folder)
        if table.pop(key, None) is not None:
            data = json.dumps(table, separators=(",", ":")).encode()
        else:  # the entry is no entry: the others are kept
            data = json.dumps(table, separators=(",", ":")).encode()
        self._write(os.path.join("cache", "pulled.json"), data)

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self._store.folder, name)
        write_whole(path, data)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _away(self, path: str) -> None:
        self._count += 1
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(self._store.folder, path), os.path.join(self._work, str(self._count)))
