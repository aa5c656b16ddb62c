"""The store's folder: making it, opening it, refusing what is not ours.

    ROOT/VERSION        format number, owner's uid outside of user namespaces; written last: it says "whole"
    ROOT/oci-layout, index.json, blobs/sha256/    an OCI image layout that any tool may read
    ROOT/layers, cache, builds    what the builder makes of it; ROOT/ingest: files on their way in
        layers/<id>/base          names a layer that has to stay as long as <id> does (see snapshots.folders)
        cache/models/ab/abcd…     the layer that a COPY made last, as text: a hint that may go at any time,
                                  keeps nothing, and may name what is gone
    ROOT/cache/http, refs    what addresses gave last, and where refs led, as text; may be removed at any time
    ROOT/cache/parts    what keys were made of (keyparts.sheets); no root, and may be removed at any time
    ROOT/cache/room     what was counted last of what it all takes (room.budget); may be removed at any time
    ROOT/cache/settings  what was found wrong with configuration files, by their bytes (slips)
    ROOT/builds/cached   the records of builds that found all in the cache (cachedrecord)
    ROOT/cache/names    a copy of index.json with its sum, for fsck (oci.names)
    ROOT/locks          see store.locks

What is added here is to be told to `room` (what it takes, whether it may go) and `fsck`.
A build's lease in ROOT/ingest says which layers and blobs it uses (store.leases): they stay while it lives.

Whoever passed `open_store` may rely on the folders. Never knows what is in them. On the cached path.
"""

from __future__ import annotations

import errno
import os

from builder import plainjson
from builder.errors import StoreError
from builder.fs.ownership import outer_uid
from builder.home import in_home
from builder.store.blobs import BlobStore
from builder.store.failure import store_error, told_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
FOLDERS = ("blobs/sha256", "layers", "cache", "ingest", "builds", "locks")
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY_INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # see link(2)
_OURS = {"VERSION", "oci-layout", "index.json", "blobs", "layers", "cache", "ingest", "builds", "locks",
         "cgroups"}  # fmt: skip


class Store:
    """An opened store. `folder` is its path as text; `blobs` must pass `barrier` before they are named."""

    __slots__ = ("blobs", "folder")

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.blobs = BlobStore(folder)

    @property
    def root(self) -> Path:
        """The folder as a Path."""
        from pathlib import Path

        return Path(self.folder)


def default_root(environment: Mapping[str, str]) -> str:
    """The store if nobody names one: PYBUILD_ROOT, /var/lib/pybuild for root, else the XDG data folder.

    Raises StoreError where the user has no home.
    """
    if chosen := environment.get("PYBUILD_ROOT"):
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    data = environment.get("XDG_DATA_HOME", "")
    if not data.startswith("/"):  # the specification says to ignore relative ones
        data = in_home(environment, ".local", "share")
    if not data:
        raise StoreError(
            f"there is no home folder (of uid {os.getuid()}) to keep a store in",
            hint="set HOME to a folder, or choose one for the store with --root or PYBUILD_ROOT",
        )
    return os.path.join(data, "pybuild")


def open_store(root: str | os.PathLike[str]) -> Store:
    """Open the store at `root`, making it where nothing is. Raises StoreError with the remedy."""
    folder = os.path.abspath(os.fspath(root))
    version = _read_version(folder)
    if version is None:
        _create(folder)
        version = _read_version(folder)
        if version is None:
            raise StoreError(f"the store {folder} was removed while it was being made")
    _check_version(folder, version)
    return Store(folder)


def _read_version(folder: str) -> bytes | None:
    try:
        with open(os.path.join(folder, "VERSION"), "rb") as file:
            return file.read(4096)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise StoreError(f"the store {folder} is no folder", hint="choose a folder with --root") from None
    except OSError as error:
        raise store_error(error, folder, "opening the store") from error


def _check_version(folder: str, version: bytes) -> None:
    """Raise StoreError for a store that this user or this version may not use."""
    try:
        data = plainjson.loads(version)
        number, uid = int(data["format"]), int(data["uid"])
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{folder}/VERSION is damaged, so this may be no store of pybuild",
            code="store-damaged",
            hint="remove the folder to start afresh, or choose another one with --root",
        ) from None
    if number > FORMAT:
        raise StoreError(
            f"the store {folder} has format {number}; this pybuild knows up to {FORMAT}",
            code="store-newer",
            hint="use the newer pybuild that made it, or choose another folder with --root",
        )
    if uid != (ours := outer_uid()) and not _is_ours(os.path.join(folder, "VERSION")):
        raise StoreError(
            f"the store {folder} belongs to uid {uid}, and this is uid {ours}",
            code="store-owner",
            hint="run as that user, or choose another folder with --root or PYBUILD_ROOT",
        )


def _is_ours(path: str) -> bool:
    """Whether the file is this user's, whatever the number: of a namespace inside a container's the number
    outside is the container's own."""
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def _create(folder: str) -> None:
    """Make a store. Several processes may do so at once: each finds what the others made."""
    with told_as(folder, "making the store"):
        os.makedirs(os.path.dirname(folder), 0o755, exist_ok=True)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            _check_is_free(folder)
            os.chmod(folder, 0o700)
        for name in FOLDERS:
            os.makedirs(os.path.join(folder, name), 0o700, exist_ok=True)
        version = {"format": FORMAT, "uid": outer_uid()}
        _write_once(folder, "oci-layout", LAYOUT)
        _write_once(folder, "index.json", EMPTY_INDEX)
        _write_once(folder, "VERSION", plainjson.dumps(version).encode() + b"\n")


def _check_is_free(folder: str) -> None:
    """Refuse a folder with somebody's files in it: a typing error in --root shall not fill a home."""
    try:
        others = sorted(set(os.listdir(folder)) - _OURS - {"lost+found"})
    except NotADirectoryError:
        raise StoreError(f"the store {folder} is no folder", hint="choose a folder with --root") from None
    if others:
        raise StoreError(
            f"{folder} is no store of pybuild and is not empty (it has {others[0]!r})",
            code="store-not-empty",
            hint="choose an empty or a new folder with --root or PYBUILD_ROOT",
        )


def _write_once(folder: str, name: str, data: bytes) -> None:
    """Write a file whole and on the disk, unless it is there."""
    from builder.store.ingest import make_file

    temporary, fd = make_file(folder, name)
    try:
        os.write(fd, data)
        os.fsync(fd)
        try:
            os.link(temporary, os.path.join(folder, name))
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise StoreError(
                f"the file system of {folder} has no hard links, which a store needs",
                hint="choose a folder on another file system with --root or PYBUILD_ROOT",
            ) from error
    finally:
        os.unlink(temporary)
        os.close(fd)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
