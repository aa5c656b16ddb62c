"""What a selection held, path by path: the rows that its content's digest was made of, packed.

A content digest says that something is different; these rows say what. They are packed by columns (digests
cut to eight bytes), as somebody who never asks should pay little for them. `Told` is what
`snapshots.selection.digest` hands out while it computes: per match its path, whether it is a folder, and
the text of its rows. Pure.
"""

from __future__ import annotations

import json
import zlib

import msgspec

FIELDS = 7  # of a row: name, kind, mode, owner, content, capability, first name of a hard link
FILE, FOLDER, SYMLINK = "f", "d", "l"  # as snapshots.snapshot has them
KINDS = frozenset((FILE, FOLDER, SYMLINK, "c", "b", "p"))
CONTENTS, CARRIED = "contents", "carried"  # marks between rows
MOST = 250_000  # rows; of more only the number is kept
SHORT = slice(7, 23)  # of a digest's text

Told = list[tuple[str, bool, str]]


class Row(msgspec.Struct, frozen=True):
    """A path as COPY would write it; `content` is a short digest, a link's target or a device's numbers."""

    kind: str
    mode: str
    owner: str
    content: str
    capability: str
    first: str


class Listing(msgspec.Struct, frozen=True):
    """Path in the source -> row. total: how many there are, also where they were too many to keep."""

    rows: dict[str, Row] = msgspec.field(default_factory=dict)
    total: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the rows are known."""
        return self.total == len(self.rows)

    @property
    def files(self) -> int:
        """How many of them are no folders."""
        return sum(row.kind != FOLDER for row in self.rows.values())


def pack(told: Told) -> bytes:
    """Rows as bytes, for the disk."""
    columns = [_columns(text) for _, _, text in told]
    total = sum(len(names) for names, *_ in columns)
    whole = total <= MOST
    heads = [[path, folder, len(names)] for (path, folder, _), (names, *_) in zip(told, columns, strict=True)]
    flat = [value for column in columns for part in column for value in part] if whole else []
    text = "\n".join((json.dumps([total, heads if whole else []]), "\0".join(flat)))
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpack(data: bytes) -> Listing:
    """The inverse. Raises ValueError for what is none."""
    try:
        head, _, body = zlib.decompress(data).decode("utf-8", "surrogatepass").partition("\n")
        total, heads = json.loads(head)
        values = body.split("\0") if heads else []
        rows: dict[str, Row] = {}
        at = 0
        for path, folder, count in heads:
            columns = [values[at + count * i : at + count * (i + 1)] for i in range(FIELDS)]
            at += count * FIELDS
            names, *rest = columns
            for name, *cells in zip(names, *rest, strict=True):
                rows[_place(path, name, folder=folder)] = Row(*cells)
    except (zlib.error, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a packed listing: {error}") from error
    return Listing(rows, total if not heads else len(rows))


def listing_of(told: Told) -> Listing:
    """The same without the way over bytes."""
    return unpack(pack(told))


def size_of(told: Told) -> int:
    """About how much memory it takes."""
    return sum(len(text) for _, _, text in told)


def _place(path: str, name: str, *, folder: bool) -> str:
    """Where a row's path is in the source."""
    if not folder:
        return path
    if name == ".":
        return path
    return name if path == "." else f"{path}/{name}"


def _columns(text: str) -> list[list[str]]:
    """The rows' fields, one list each."""
    values = text.split("\0")
    values.pop()
    if CARRIED in values:
        values = _without_marks(values)
    elif len(values) % FIELDS == 1 and values[0] == CONTENTS:
        del values[0]
    columns = [values[number::FIELDS] for number in range(FIELDS)]
    columns[4] = [
        content[SHORT] if kind == FILE else content
        for kind, content in zip(columns[1], columns[4], strict=True)
    ]
    return columns


def _without_marks(values: list[str]) -> list[str]:
    """Without the marks of what was not meant itself, or of a folder whose own row does not count.

    A row's second field is a kind, which no mode is: so a path that is called like a mark is none.
    """
    kept: list[str] = []
    at = 0
    while at < len(values):
        is_row = at + 2 < len(values) and values[at + 1] in KINDS and values[at + 2] not in KINDS
        if not is_row and values[at] in (CONTENTS, CARRIED):
            at += 1
            continue
        kept += values[at : at + FIELDS]
        at += FIELDS
    return kept
