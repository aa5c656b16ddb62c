"""Blobs: each one's bytes against the digest that it is called by."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from builder import digest as digests
from builder.fsck.finding import Counts, Finding

if TYPE_CHECKING:
    from builder.store.root import Store

CHUNK = 1 << 20
FOLDER = os.path.join("blobs", "sha256")


def check(store: Store, counts: Counts) -> Iterator[Finding]:
    """What is no blob, or has other bytes than it should."""
    top = os.path.join(store.folder, FOLDER)
    names = sorted(os.listdir(top)) if os.path.isdir(top) else []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, problem in zip(names, pool.map(lambda name: problem_of(store, name), names), strict=True):
            counts.blobs += 1
            if problem:
                yield Finding("blob", os.path.join(FOLDER, name), problem)


def problem_of(store: Store, name: str) -> str:
    """What is wrong with a blob; "" for nothing, or where it is gone meanwhile."""
    if len(name) != 64 or not digests.HEX.issuperset(name):
        return "this is no name of a blob"
    try:
        fd = os.open(
            os.path.join(store.folder, FOLDER, name),
            os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
        )
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "it is no file"
        hasher = hashlib.sha256()
        try:
            while data := file.read(CHUNK):
                hasher.update(data)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
    return "" if hasher.hexdigest() == name else "its bytes are not what its digest says"
