"""What dead builds left beside its place, and what is remembered of things that are gone.

All of it is harmless where it lies: temporary names that nobody renamed, claims that nobody holds, answers
about layers that were removed, records of an earlier boot without a barrier. Nothing here can be in use:
claims are taken by their lock, a temporary name's process is dead, and an answer is looked up by its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder import digest as digests
from builder.isolation.stepgroups import sweep_groups
from builder.record import forget_old
from builder.room.facts import TEMPORARY, list_answers, read_answers
from builder.snapshots.edit import is_id
from builder.solver.cache import boot_id
from builder.store.ingest import sweep_ingest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.store.root import Store

OLD = 86400  # seconds after which a temporary name is nobody's, its process being dead
_WITHOUT_LAYERS = ("records", "images", "claims", "mounts", "git", "stat", "diffs", "parts")


@dataclass(slots=True)
class Swept:
    """How many of each kind were removed."""

    unfinished: int = 0
    temporary: int = 0
    claims: int = 0
    answers: int = 0
    records: int = 0
    links: int = 0

    @property
    def dead(self) -> int:
        """How many things a build had left that was killed."""
        return self.unfinished + self.temporary + self.claims


def sweep(store: Store, *, max_age: float = 0) -> Swept:
    """Remove all of it; what cannot be removed now stays. max_age: seconds; answers that were not used for
    so long go too, 0: however old they are."""
    swept = Swept(unfinished=sweep_ingest(store.folder))
    sweep_groups(store.folder)
    with contextlib.suppress(OSError):
        forget_old(store)
    swept.claims = _sweep_claims(store.folder)
    swept.temporary = _sweep_temporary(store.folder)
    swept.records = _remove(_dead_records(store.folder))
    swept.answers = _remove(_dead_answers(store.folder)) + _remove(_old_answers(store.folder, max_age))
    swept.links = _remove(_dead_links(store.folder))
    return swept


def _remove(paths: Iterator[str]) -> int:
    count = 0
    for path in list(paths):
        with contextlib.suppress(OSError):
            os.unlink(path)
            count += 1
    return count


# ── claims and temporary names ───────────────────────────────────────────────────────────────────────────


def _sweep_claims(root: str) -> int:
    """Claims whose process is dead: their lock can be had, and they still have their name then."""
    top, count = os.path.join(root, "cache", "claims"), 0
    for name in _names(top):
        path = os.path.join(top, name)
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    os.unlink(path)
                    count += 1
            finally:
                os.close(fd)
    return count


def temporary_names(root: str) -> Iterator[str]:
    """Temporary names beside their places in ROOT/cache, ROOT/layers and ROOT/builds, dead or not."""
    for top in ("cache", "builds"):
        for folder, folders, names in os.walk(os.path.join(root, top)):
            if folder == os.path.join(root, "cache"):
                folders[:] = [name for name in folders if name not in ("mounts", "git")]
            yield from (os.path.join(folder, name) for name in names if TEMPORARY.fullmatch(name))
    layers = os.path.join(root, "layers")
    for layer in _names(layers):
        folder = os.path.join(layers, layer)
        yield from (os.path.join(folder, name) for name in _names(folder) if TEMPORARY.fullmatch(name))


def _sweep_temporary(root: str) -> int:
    count = 0
    for path in temporary_names(root):
        with contextlib.suppress(OSError):
            if _is_dead(path):
                os.unlink(path)
                count += 1
    return count


def _is_dead(path: str) -> bool:
    """Whether who made a temporary name is gone: for a while, as it may be of another PID namespace."""
    if time.time() - os.lstat(path).st_mtime < OLD:
        return False
    found = TEMPORARY.fullmatch(os.path.basename(path))
    pids = [pid for pid in found.groups() if pid] if found else []
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────


def _dead_records(root: str) -> Iterator[str]:
    """Records of which a layer is gone, or that a power cut may have hurt."""
    boot = boot_id()
    for path, _, _, data in read_answers(root, "records"):
        layers = data.get("layers")
        if data.get("boot", boot) != boot or not isinstance(layers, list) or not _are_there(root, layers):
            yield path


def _dead_answers(root: str) -> Iterator[str]:
    """Answers about layers that are gone, and finished images of which a blob is."""
    for kind in _names(os.path.join(root, "cache")):
        if kind not in _WITHOUT_LAYERS:
            for path, _, _, data in read_answers(root, kind):
                layers = data.get("of", [])
                if kind == "models":
                    layers = [data.get("text", "")]
                if isinstance(layers, list) and not _are_there(root, layers):
                    yield path
    for path, _, _, data in read_answers(root, "images"):
        try:
            blobs = [digests.parse(blob) for blob in json.loads(data["text"])[0][2]]
        except (ValueError, LookupError, TypeError, AttributeError):
            blobs = []
        if not all(os.path.exists(os.path.join(root, "blobs", blob.replace(":", "/"))) for blob in blobs):
            yield path


def _old_answers(root: str, max_age: float) -> Iterator[str]:
    if max_age:
        before = time.time() - max_age
        for kind in _names(os.path.join(root, "cache")):
            if kind not in ("records", "mounts", "git"):
                yield from (path for path, _, used in list_answers(root, kind) if used < before)


def _dead_links(root: str) -> Iterator[str]:
    """Links from a foreign blob's diff id to a layer that is gone."""
    top = os.path.join(root, "cache", "diffs")
    for name in _names(top):
        path = os.path.join(top, name)
        with contextlib.suppress(OSError):
            if not _are_there(root, [os.readlink(path)]):
                yield path


def _are_there(root: str, layers: list[object]) -> bool:
    return all(
        isinstance(layer, str)
        and is_id(layer)
        and os.path.lexists(os.path.join(root, "layers", layer, "boot"))
        for layer in layers
    )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
