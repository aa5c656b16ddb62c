"""The cache: records that map a key to a snapshot, and claims on keys that are being made.

    ROOT/cache/records/ab/abcd…   a record: one JSON object, replaced by rename
    ROOT/cache/content/ab/abcd…   a remembered answer: the content digest of a selection of a snapshot, or
                                  of what a key named when it was last made
    ROOT/cache/claims/abcd…       flock'ed by the process that makes this key's result; dies with it

Whatever is written here ends with a sum of itself and its name, and what does not is not there. A file's
mtime is when it was last used, within the hour: for who makes room, and nobody else.

A record without a barrier behind it (no `promoted`) counts only in the boot that wrote it, as an
unsynced rename may not survive a power cut (design: durability at the price of a step). Damage is a
miss. This is on the path of a fully cached build, and knows nothing of what a snapshot's layers are.
"""

from __future__ import annotations

import fcntl
import os
import time

from builder import plainjson
from builder.digest import Digest, hex_of, of_value, sha256_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from builder.graph.selection import Selection
    from builder.snapshots.snapshot import Snapshot

USED_WITHIN = 3600  # seconds; how exactly a last use is known
_TAIL = ', "sum": "{}"}}'
_TAIL_LENGTH = len(_TAIL.format("0" * 16))
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """What names this boot of the machine (random(4)); empty where the kernel does not tell."""
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Record:
    """What the cache holds under a key: a snapshot, and the seconds its making took."""

    __slots__ = ("label", "seconds", "snapshot")

    def __init__(self, snapshot: Snapshot, seconds: float, label: str) -> None:
        self.snapshot = snapshot
        self.seconds = seconds
        self.label = label


class Cache:
    """Records in a folder. `exists` says whether all layers of a snapshot are (still) there.

    `aged`: something was found here that had not been used within the last hour.
    """

    def __init__(self, root: str, exists: Callable[[Snapshot], bool]) -> None:
        self.root = root
        self.exists = exists
        self.boot = boot_id()
        self.aged = False

    def get(self, key: Digest) -> Record | None:
        """The record under `key` if it can be used, else None."""
        data = self._read("records", key, used=True)
        try:
            if data is None or data.get("boot", self.boot) != self.boot:
                return None
            record = Record(tuple(data["layers"]), float(data["seconds"]), str(data["label"]))
        except (KeyError, TypeError, ValueError):
            return None
        return record if self.exists(record.snapshot) else None

    def put(self, key: Digest, record: Record) -> None:
        """Set the record under `key`, replacing what was there."""
        data = {
            "layers": list(record.snapshot),
            "seconds": round(record.seconds, 6),
            "label": record.label,
            "boot": self.boot,
        }
        self._write("records", key, data)

    def promote(self, key: Digest) -> None:
        """Mark the record as behind a barrier; call it only after one (syncfs) was passed."""
        data = self._read("records", key)
        if data is not None and data.pop("boot", None) == self.boot:
            self._write("records", key, data)

    def content(self, snapshot: Snapshot, selection: Selection, make: Callable[[], Digest]) -> Digest:
        """The digest of a selection of a snapshot, remembered (layers never change under their id)."""
        name = _content_name(snapshot, selection)
        known = self.recall("content", name)
        return Digest(known or self.remember("content", name, make(), of=snapshot[-1:]))

    def known_content(self, snapshot: Snapshot, selection: Selection) -> Digest | None:
        """The digest of a selection of a snapshot, if it was asked for before."""
        text = self.recall("content", _content_name(snapshot, selection))
        return Digest(text) if text else None

    def selected(self, key: Digest, selection: Selection) -> Digest | None:
        """The digest of a selection of the result that a key names, as it was when it was last there."""
        text = self.recall("content", _selected_name(key, selection))
        return Digest(text) if text else None

    def note_selected(self, key: Digest, selection: Selection, digest: Digest) -> None:
        """Remember a selection's digest by the key of what it was taken from."""
        if self.selected(key, selection) != digest:
            self.remember("content", _selected_name(key, selection), digest)

    def remember(self, kind: str, name: Digest, text: str, *, of: Snapshot = ()) -> str:
        """Keep a text under a name; what is there is replaced. Returns it.

        of: the layers without which it means nothing any more.
        """
        self._write(kind, name, {"text": text, "of": list(of)} if of else {"text": text})
        return text

    def use(self, keys: Iterable[Digest]) -> None:
        """Note that the records under these keys, as far as they are there, were of use."""
        for key in keys:
            _touch(self._path("records", key))

    def recall(self, kind: str, name: Digest) -> str | None:
        """The text under a name, if any."""
        data = self._read(kind, name, used=True)
        text = data.get("text") if data is not None else None
        return text if isinstance(text, str) else None

    def records(self) -> Iterator[tuple[Digest, dict[str, Any]]]:
        """All records as plain data, for the garbage collector."""
        top = os.path.join(self.root, "records")
        for _folder, _, names in os.walk(top):
            for name in names:
                digest = Digest("sha256:" + name)
                if "." not in name and (data := self._read("records", digest)) is not None:
                    yield digest, data

    def forget(self, key: Digest) -> None:
        """Drop the record under `key`, if any."""
        try:
            os.unlink(self._path("records", key))
        except FileNotFoundError:
            return

    def claim(self, key: Digest) -> Claim | None:
        """Claim the making of `key`'s result; None while another process has it."""
        folder = os.path.join(self.root, "claims")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, hex_of(key))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if not _names(path, fd):  # the former holder removed it between our open and our lock
            os.close(fd)
            return self.claim(key)
        return Claim(path, fd)

    def _path(self, kind: str, digest: Digest) -> str:
        name = hex_of(digest)
        return os.path.join(self.root, kind, name[:2], name)

    def _read(self, kind: str, digest: Digest, *, used: bool = False) -> dict[str, Any] | None:
        path = self._path(kind, digest)
        try:
            with open(path, "rb", buffering=0) as file:
                raw = file.read()
                last = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        if used and abs(time.time() - last) > USED_WITHIN:
            self.aged = True
            _touch(path)
        return unsealed(hex_of(digest), raw)

    def _write(self, kind: str, digest: Digest, data: dict[str, Any]) -> None:
        path = self._path(kind, digest)
        temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(sealed(hex_of(digest), data))
            os.rename(temporary, path)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise


class Claim:
    """A claim that is held. `release` removes its file while the lock is still ours."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def release(self) -> None:
        """Give the claim up."""
        try:
            os.unlink(self.path)
        finally:
            os.close(self.fd)


def sealed(name: str, data: dict[str, Any]) -> bytes:
    """An object as the JSON that is written under a name, with the sum of both as its last field."""
    text = plainjson.dumps(data)
    return (text[:-1] + _TAIL.format(_sum(name, text[:-1].encode("ascii")))).encode("ascii")


def unsealed(name: str, raw: bytes) -> dict[str, Any] | None:
    """The object that was written under a name; None for what is not as it was written."""
    head, tail = raw[:-_TAIL_LENGTH], raw[-_TAIL_LENGTH:]
    if tail != _TAIL.format(_sum(name, head)).encode("ascii"):
        return None
    data = plainjson.loads(head + b"}")
    return data if isinstance(data, dict) else None


def _sum(name: str, head: bytes) -> str:
    return sha256_of(name.encode("ascii") + head).hex()[:16]


def _touch(path: str) -> None:
    """Set a file's mtime to now; where that cannot be done, it only seems to be older than it is."""
    try:
        os.utime(path)
    except OSError:
        return


def _content_name(snapshot: Snapshot, selection: Selection) -> Digest:
    return of_value([list(snapshot), selection.plain()])


def _selected_name(key: Digest, selection: Selection) -> Digest:
    return of_value(["selected", key, selection.plain()])


def _names(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
