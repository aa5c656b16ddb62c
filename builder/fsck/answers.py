"""What the cache remembers: records, answers, stat caches, links, and the records of builds.

Each file holds a sum of itself, so damage is seen; a stat cache is held against the files that it is about,
where its folder is known from the records of builds and is still there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.contexts import stat_cache_name
from builder.digest import from_hex
from builder.fsck.finding import Counts, Finding
from builder.records import all_ids, path_of, request_of
from builder.room.budget import FILE as ROOM
from builder.room.facts import list_answers
from builder.snapshots.edit import is_id
from builder.solver.cache import unsealed
from builder.store.statcache import StatCache

if TYPE_CHECKING:
    from builder.store.root import Store

CHUNK = 1 << 20
_OTHERS = ("mounts", "git", "stat", "diffs", "claims", "parts")  # folders of ROOT/cache without sums of ours


def check(store: Store, counts: Counts) -> Iterator[Finding]:
    """What is damaged of it."""
    top = os.path.join(store.folder, "cache")
    for kind in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        if kind not in _OTHERS and os.path.isdir(os.path.join(top, kind)):
            yield from _check_kind(store, kind, counts)
    yield from _check_links(store)
    yield from _check_stat_caches(store)
    yield from _check_room(store)
    yield from _check_builds(store)


def _check_kind(store: Store, kind: str, counts: Counts) -> Iterator[Finding]:
    for path, name, _ in list_answers(store.folder, kind):
        counts.records += kind == "records"
        try:
            with open(path, "rb", buffering=0) as file:
                data = unsealed(name, file.read())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            data = None
        if data is None:
            yield Finding("record" if kind == "records" else kind, _below(store, path), "it is damaged")


def _check_links(store: Store) -> Iterator[Finding]:
    """The links from diff ids to layers: their texts must be ids."""
    top = os.path.join(store.folder, "cache", "diffs")
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        path = os.path.join(top, name)
        try:
            sound = is_id(os.readlink(path))
        except OSError:
            sound = not os.path.lexists(path)
        if not sound:
            yield Finding("diff", _below(store, path), "it leads to no layer")


def _check_stat_caches(store: Store) -> Iterator[Finding]:
    top = os.path.join(store.folder, "cache", "stat")
    known = {stat_cache_name(folder): folder for folder in _contexts(store)}
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        path = os.path.join(top, name)
        if name.endswith(".part") or not os.path.isfile(path):
            continue
        cache = StatCache(path)
        if not cache.is_sound():
            yield Finding("stat", _below(store, path), "it is damaged")
        elif name in known and (wrong := _wrong_row(cache, known[name])):
            yield Finding("stat", _below(store, path), f"{wrong!r} has another digest")


def _wrong_row(cache: StatCache, folder: str) -> str:
    """A file that is as it was when it was hashed, and has another digest; "" where there is none."""
    for path in cache.paths():
        full = os.path.join(folder, path)
        with contextlib.suppress(OSError):
            known = cache.lookup(path, os.lstat(full))
            if known is None:
                continue
            hasher = hashlib.sha256()
            with open(full, "rb", buffering=0) as file:
                while data := file.read(CHUNK):
                    hasher.update(data)
            if from_hex(hasher.hexdigest()) != known and cache.lookup(path, os.lstat(full)) == known:
                return path
    return ""


def _contexts(store: Store) -> set[str]:
    """The folders that builds had as their contexts, as far as that is recorded."""
    found = set()
    for name in all_ids(store):
        context = request_of(path_of(store, name)).get("folder")
        if isinstance(context, str) and os.path.isabs(context) and os.path.isdir(context):
            found.add(context)
    return found


def _check_room(store: Store) -> Iterator[Finding]:
    try:
        with open(os.path.join(store.folder, ROOM), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return
    if not data:  # as a build leaves it that was cut short before it counted
        return
    head, _, rest = data.partition(b"\n")
    try:
        sound = unsealed(ROOM, head) is not None and all(int(line) >= 0 for line in rest.split())
    except ValueError:
        sound = False
    if not sound:
        yield Finding("room", ROOM, "it is damaged")


def _check_builds(store: Store) -> Iterator[Finding]:
    """A step that is kept of a failed build must be told whole."""
    from builder.failed import kept_steps

    known = {step.build for step in kept_steps(store)}
    top = os.path.join(store.folder, "builds")
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        path = os.path.join("builds", name, "failed.json")
        if name not in known and os.path.exists(os.path.join(store.folder, path)):
            yield Finding("build", path, "the failed step that it keeps cannot be read")


def _below(store: Store, path: str) -> str:
    return os.path.relpath(path, store.folder)
