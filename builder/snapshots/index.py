"""The small files of a layer on disk: its index, the digests found later, and its boot.

    index     a header line {"format": 1, "entries": N}, then one JSON row of Entry.plain() a line; ASCII
    blob.json the blobs that it has; see `forms`
    digests   JSON rows [path, digest], appended when somebody asked for the digest of a file
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

import json
import os

from builder.digest import HEX
from builder.errors import StoreError
from builder.fs.ownership import MAPPED, REAL, RECORDED
from builder.snapshots.snapshot import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def write_index(folder: str, entries: Iterable[Entry]) -> None:
    """Write a layer's index into its folder, which is not in place yet."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    rows = [encode(entry.plain()) for entry in entries]
    header = encode({"format": FORMAT, "entries": len(rows)})
    with open(os.path.join(folder, INDEX), "x", encoding="ascii") as file:
        file.write("\n".join([header, *rows, ""]))


def read_index(folder: str) -> list[Entry] | None:
    """The entries of a layer, with the digests that are known; None where there is no such layer.

    A damaged index, or one of another format, is no layer, too.
    """
    try:
        with open(os.path.join(folder, INDEX), "rb") as file:
            header, *rows = file.read().splitlines()
        about = json.loads(header)
        if about["format"] != FORMAT or about["entries"] != len(rows):
            return None
        # One call for all rows: several times as fast as a call for each.
        entries = [Entry.from_plain(row) for row in json.loads(b"[" + b",".join(rows) + b"]")]
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
    found: dict[str, Digest] = {}
    try:
        with open(os.path.join(folder, DIGESTS), "rb") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return found
    for line in lines:
        try:
            path, digest = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(path, str) and _is_digest(digest):
            found[path] = digest
    return found


def digest_line(path: str, digest: Digest) -> bytes:
    """The line of the `digests` file that says so."""
    return json.dumps([path, digest], separators=(",", ":")).encode("ascii") + b"\n"


def read_blob_digests(folder: str) -> list[Digest]:
    """The digests of the blobs that a layer is said to have (see `forms`), by json alone."""
    try:
        with open(os.path.join(folder, BLOBS), "rb") as file:
            known = json.loads(file.read())
        return [d for blob in known.values() if _is_digest(d := blob["descriptor"]["digest"])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


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
        os.rename(temporary, path)


def read_boot(folder: str, name: str = BOOT) -> str | None:
    """The boot in which the layer was made, `promoted`, or None where there is no such layer."""
    try:
        return os.readlink(os.path.join(folder, name))
    except OSError:
        return None


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
        hint="build again with --no-cache, or pull the base image again with --pull",
    )


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 71 and text[:7] == "sha256:" and HEX.issuperset(text[7:])
