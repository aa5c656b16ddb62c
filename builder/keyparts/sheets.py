"""Where sheets are kept: the last builds of each Dockerfile, with the listings of what they copied.

    ROOT/cache/parts/LINE/SHEET.sheet   a sheet, under the digest of all its keys; its time: last written
    ROOT/cache/parts/LINE/NAME.rows     a listing (keyparts.rows), no older than the sheets that name it

A LINE is a context with a Dockerfile. It keeps its last sheets, and the store its last lines; all of it may
be removed at any time: then a reason is not told, and nothing else is different. Files appear by one
rename; what cannot be written is not kept, what is damaged is not there.
"""

from __future__ import annotations

import contextlib
import os
import time

from builder.digest import hex_of, of_value
from builder.fs.whole import write_whole
from builder.keyparts import rows as listings
from builder.keyparts.rows import Listing, Told
from builder.keyparts.sheet import Sheet, decode, encode

KEPT_SHEETS = 24  # of a line; when there are OVERFULL, the oldest go
OVERFULL = 32
KEPT_LINES = 256
SHEET, ROWS = ".sheet", ".rows"
DIGITS = frozenset("0123456789abcdef")
HOUR = 3600


def line_of(context: str, dockerfile: str) -> str:
    """The name of a line: of a context (absolute, or an address) and a Dockerfile's name."""
    return hex_of(of_value([context, dockerfile]))[:16]


def name_of(sheet: Sheet) -> str:
    """What a sheet is called: equal builds have equal names."""
    keys = [[step.key, step.forced] for step in sheet.steps]
    return hex_of(of_value([sheet.target, sheet.platform, keys]))[:32]


class Sheets:
    """The sheets of a store."""

    def __init__(self, root: str) -> None:
        self.folder = os.path.join(root, "cache", "parts")

    def keep(self, line: str, sheet: Sheet, told: dict[str, Told]) -> str:
        """Keep a sheet with its listings; its name. Raises OSError.

        told: the listings that are known, by their names; those that are there already need not be.
        """
        folder = os.path.join(self.folder, line)
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._forget_lines()
        named = {item.rows for step in sheet.steps for item in step.inputs if item.rows}
        name = name_of(sheet)
        path = os.path.join(folder, name + SHEET)
        if not _touched(path):
            write_whole(path, encode(sheet))
            _forget_sheets(folder)
        for rows in named:
            where = os.path.join(folder, rows + ROWS)
            if not _touched(where) and rows in told:
                write_whole(where, listings.pack(told[rows]))
        return name

    def has(self, line: str, name: str) -> bool:
        """Whether that sheet is there."""
        return os.path.exists(os.path.join(self.folder, line, name + SHEET))

    def read(self, line: str, name: str) -> Sheet | None:
        """That sheet, if it is there."""
        if not _is_name(line) or not _is_name(name):
            return None
        return _read_sheet(os.path.join(self.folder, line, name + SHEET))

    def of_line(self, line: str) -> list[Sheet]:
        """A line's sheets, the last one first."""
        found = (_read_sheet(path) for path in _newest(os.path.join(self.folder, line), SHEET))
        return [sheet for sheet in found if sheet is not None]

    def of_others(self, line: str, most: int) -> list[tuple[str, Sheet]]:
        """(line, sheet): the last sheet of each of the other lines, up to so many."""
        found: list[tuple[str, Sheet]] = []
        for other in self._lines():
            if other != line and len(found) < most:
                for path in _newest(os.path.join(self.folder, other), SHEET)[:1]:
                    if (sheet := _read_sheet(path)) is not None:
                        found.append((other, sheet))
        return found

    def rows(self, line: str, name: str) -> Listing | None:
        """A listing, if it is there."""
        if not _is_name(name):
            return None
        try:
            with open(os.path.join(self.folder, line, name + ROWS), "rb") as file:
                return listings.unpack(file.read())
        except (OSError, ValueError):
            return None

    def _lines(self) -> list[str]:
        """The lines, the one that was last written to first."""
        return [os.path.basename(path) for path in _newest(self.folder, "")]

    def _forget_lines(self) -> None:
        from builder.fs.remove import remove_tree

        for line in self._lines()[KEPT_LINES:]:
            with contextlib.suppress(OSError):  # another build may be removing it too
                remove_tree(os.path.join(self.folder, line))


def _forget_sheets(folder: str) -> None:
    """Where there are too many sheets, remove the oldest, and the listings that are older than what stays."""
    names = os.listdir(folder)
    if sum(name.endswith(SHEET) for name in names) <= OVERFULL:
        return
    newest = _newest(folder, SHEET)
    oldest = min(_time(path) for path in newest[:KEPT_SHEETS])
    doomed = newest[KEPT_SHEETS:]
    doomed += [path for path in _newest(folder, ROWS) if _time(path) < oldest]
    stale = time.time_ns() - HOUR * 1_000_000_000
    doomed += [path for path in _newest(folder, ".part") if _time(path) < stale]
    for path in doomed:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _is_name(text: str) -> bool:
    """Whether it is a name that we give, and no other path."""
    return len(text) >= 8 and DIGITS.issuperset(text)


def _newest(folder: str, end: str) -> list[str]:
    """The paths in a folder whose names end so, the youngest first."""
    try:
        with os.scandir(folder) as entries:
            paths = [entry.path for entry in entries if entry.name.endswith(end)]
    except OSError:
        return []
    return sorted(paths, key=_time, reverse=True)


def _time(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _touched(path: str) -> bool:
    """Give a file the present time; False where it is not there."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def _read_sheet(path: str) -> Sheet | None:
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except (OSError, ValueError):
        return None
