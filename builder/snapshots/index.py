"""The small files of a layer on disk: its index, the digests found later, and its boot.

    index     a header line {"format": 1, "entries": N, "size": bytes on disk of its folder, about, "sum": of
              all that follows}, then one JSON row of Entry.plain() a line; ASCII
    blob.json the blobs that it has (see `forms`), and in a second line the sum of the first
    digests   JSON rows [path, digest, sum of both], appended when somebody asked for the digest of a file
    boot      a symlink to nowhere: its text is the boot in which the layer was made, or `promoted`
    tree-boot the same of the layer's folder `tree`, where that was made later; likewise tree-mapped-boot...

A symlink, since it is made, replaced and read whole by one system call each, and its text lies in the
same journal as the folder: after a power cut it is there or not, but never empty. An index is written
once and never changes. Damage is None or a miss, never an error of its own: who lost a layer makes it again.

Also here: the names of a layer's folders, one for each way of keeping owners (`fs.ownership`), as files that
belong to somebody there mean nothing where they are recorded. What a plain user makes outside of any user
namespace is named apart: it lacks file capabilities, so no step may run on it.

On the cached path: os and json are all it loads.
"""

from __future__ import annotations

import os

from builder import plainjson
from builder.digest import HEX, sha256_of
from builder.errors import StoreError
from builder.fs.ownership import MAPPED, REAL, RECORDED
from builder.snapshots.snapshot import FILE, FOLDER, Entry
from builder.store.failure import told_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from builder.digest import Digest

FORMAT = 1
INDEX = "index"
DIGESTS = "digests"
BLOBS = "blob.json"
BOOT = "boot"
PROMOTED = "promoted"
_TREES = {REAL: "tree", MAPPED: "tree-mapped", RECORDED: "tree-recorded"}
_PLAIN_TREE = "tree-plain"
TREES = (*_TREES.values(), _PLAIN_TREE)
BLOCK = 4096  # bytes; in which file systems give room away
MAX_HEADER = 4096
_HEADER = {"format", "entries", "size", "sum"}  # the last two are missing from before there were any
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """What names this boot of the machine (random(4)).

    Where the kernel does not tell, a name of this process alone: nothing unsynced outlives it then.
    """
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return f"unknown-{os.getpid()}-{os.urandom(8).hex()}"


def write_index(folder: str, entries: Sequence[Entry]) -> int:
    """Write a layer's index into its folder, not in place yet; the room that its tree takes, about."""
    rows = _lines([entry.plain() for entry in entries])
    size = room_of(entries)
    about = {"format": FORMAT, "entries": len(entries), "size": size, "sum": sha256_of(rows).hex()}
    with open(os.path.join(folder, INDEX), "xb") as file:
        file.write(plainjson.dumps(about, compact=True).encode("ascii") + b"\n" + rows)
    return size


def _lines(rows: list[list[Any]]) -> bytes:
    """A line of JSON for each row, in ASCII."""
    import msgspec

    try:  # all at once, which takes a fortieth of the time
        lines = msgspec.json.Encoder().encode_lines(rows)
    except UnicodeEncodeError:  # a name that is no UTF-8
        lines = b"\x80"
    if lines.isascii():
        return lines
    encode = plainjson.encoder(compact=True)
    return "".join([f"{encode(row)}\n" for row in rows]).encode("ascii")


def room_of(entries: Iterable[Entry]) -> int:
    """The bytes on a disk that a folder with these entries takes, about."""
    size = 0
    for entry in entries:
        if entry.kind == FILE and entry.hardlink is None:
            size += -(-entry.size // BLOCK) * BLOCK
        elif entry.kind == FOLDER:
            size += BLOCK
    return size


def has_sound_header(folder: str, entries: Iterable[Entry]) -> bool:
    """Whether the header of a layer's index, which its sum does not cover, says what is so of the entries."""
    try:
        with open(os.path.join(folder, INDEX), "rb") as file:
            about = plainjson.loads(file.readline())
    except (OSError, ValueError):
        return False
    return about.keys() <= _HEADER and about.get("size") in (None, room_of(entries))


def read_size(folder: str) -> int | None:
    """The room that the tree of a layer takes, about, by its header alone; None where nobody has noted it."""
    try:
        with open(os.path.join(folder, INDEX), "rb", buffering=0) as file:
            size = plainjson.loads(file.read(MAX_HEADER).partition(b"\n")[0])["size"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return size if isinstance(size, int) else None


def read_index(folder: str) -> list[Entry] | None:
    """The entries of a layer, with the digests that are known; None where there is no such layer.

    A damaged index, or one of another format, is no layer, too.
    """
    try:
        with open(os.path.join(folder, INDEX), "rb") as file:
            header, _, text = file.read().partition(b"\n")
        about = plainjson.loads(header)
        rows = text.splitlines()
        if about["format"] != FORMAT or about["entries"] != len(rows):
            return None
        if about.get("sum") not in (None, sha256_of(text).hex()):  # None: from before there were sums
            return None
        # One call for all rows: several times as fast as a call for each.
        entries = [Entry.from_plain(row) for row in plainjson.loads(b"[" + b",".join(rows) + b"]")]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError):
        return None
    if digests := read_digests(folder):
        for entry in entries:
            if entry.digest is None and entry.path in digests:
                entry.digest = digests[entry.path]
    return entries


def read_digests(folder: str) -> Mapping[str, Digest]:
    """Path -> digest of what was hashed after the index was written; broken lines are left out."""
    return dict(row for row in read_noted(folder) if row is not None)


def read_noted(folder: str) -> list[tuple[str, Digest] | None]:
    """The same line by line, as they were appended; None for a broken one."""
    try:
        with open(os.path.join(folder, DIGESTS), "rb") as file:
            return [_noted(line) for line in file.read().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _noted(line: bytes) -> tuple[str, Digest] | None:
    try:
        path, digest, told = plainjson.loads(line)
    except (ValueError, TypeError):
        return None
    if isinstance(path, str) and _is_digest(digest) and told == _sum_of(path, digest):
        return path, digest
    return None


def _sum_of(path: str, digest: Digest) -> str:
    return sha256_of(f"{path}\n{digest}".encode("utf-8", "surrogateescape")).hex()[:16]


def digest_line(path: str, digest: Digest) -> bytes:
    """The line of the `digests` file that says so."""
    row = [path, digest, _sum_of(path, digest)]
    return plainjson.dumps(row, compact=True).encode("ascii") + b"\n"


def with_sum(data: bytes) -> bytes:
    """A line of data, and behind it a line with its sum."""
    return data + b"\n" + sha256_of(data).hex()[:16].encode("ascii") + b"\n"


def without_sum(raw: bytes) -> bytes:
    """The line of data; nothing where it is not as it was written."""
    data, _, told = raw.partition(b"\n")
    return data if told.strip() in (b"", sha256_of(data).hex()[:16].encode("ascii")) else b""


def read_blob_sizes(folder: str) -> dict[Digest, int]:
    """The blobs that a layer is said to have (see `forms`), and their sizes, by json alone."""
    try:
        with open(os.path.join(folder, BLOBS), "rb") as file:
            known = [blob["descriptor"] for blob in plainjson.loads(without_sum(file.read())).values()]
        return {d["digest"]: int(d["size"]) for d in known if _is_digest(d["digest"])}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def read_blob_digests(folder: str) -> list[Digest]:
    """The same without their sizes."""
    return list(read_blob_sizes(folder))


def tree_name(way: str) -> str:
    """The name of a layer's folder in this way, made by this process."""
    return _PLAIN_TREE if way == RECORDED and os.geteuid() != 0 else _TREES[way]


def tree_boot(tree: str) -> str:
    """The name of the mark of a layer's folder that was made later than the layer."""
    return f"{tree}-boot"


def mark_boot(folder: str, text: str, name: str = BOOT) -> None:
    """Say in which boot the layer was made, replacing what was said before."""
    path = os.path.join(folder, name)
    try:
        os.symlink(text, path)
    except FileExistsError:
        temporary = f"{path}-{os.urandom(8).hex()}"
        os.symlink(text, temporary)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


def read_boot(folder: str, name: str = BOOT) -> str | None:
    """The boot in which the layer was made, `promoted`, or None where there is no such layer."""
    try:
        return os.readlink(os.path.join(folder, name))
    except OSError:
        return None


def unmark(folder: str) -> None:
    """Say that a layer is none, as its index cannot be read: who asks for it makes it again."""
    with told_as(folder, "dropping a damaged layer"):
        try:
            os.unlink(os.path.join(folder, BOOT))
        except (FileNotFoundError, NotADirectoryError):
            return


def is_whole(tree: str, boot: str) -> bool:
    """Whether a layer's folder of bytes is there, made in this boot or with a barrier behind it."""
    folder, name = os.path.split(tree)
    return os.path.isdir(tree) and read_boot(folder, tree_boot(name)) in (None, boot, PROMOTED)


def note_digest(folder: str, path: str, digest: Digest) -> None:
    """Append to a layer's digests. One write(2) of a short line, so lines of two writers do not mix."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(folder, DIGESTS), flags, 0o600)
    try:
        os.write(fd, digest_line(path, digest))
    finally:
        os.close(fd)


def lost(layer: str) -> StoreError:
    """The error for a layer that is not there, or has lost its bytes."""
    return StoreError(
        f"layer {layer} is no longer whole in the store",
        code="layer-lost",
        hint="build again: it is made, or fetched, once more; `pybuild fsck` tells what else is damaged",
    )


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 71 and text[:7] == "sha256:" and HEX.issuperset(text[7:])
