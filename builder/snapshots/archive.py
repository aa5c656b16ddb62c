"""Archives unpacked by ADD: an archive's entries, in their order, put onto a canvas.

As an extracting tar whose root is the destination folder: `..` stops there, absolute links lead there, an
entry takes the place of what it meets (only folders merge), folders that are only implied are 0755
root:root. Nothing of an archive can name a path outside the destination.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from builder.errors import BuildError
from builder.snapshots.canvas import Canvas, join
from builder.snapshots.patterns import clean
from builder.snapshots.selection import capability_of
from builder.snapshots.snapshot import FILE, FOLDER, SYMLINK, Entry, LayerId
from builder.snapshots.tree import TooManyLinks, resolve


class Archive(msgspec.Struct, frozen=True):
    """What a file holds that is an archive.

    entries: as in the archive: in its order, repeated paths and all, paths and hardlinks as their headers
    have them. layer: names the place where the bytes of each FILE among `entries` can be had.
    """

    layer: LayerId
    entries: Sequence[Entry]


def apply(canvas: Canvas, dest: str, archive: Archive, *, owner: tuple[int, int] | None, now: int) -> None:
    """Unpack into the folder `dest`, which is there and resolved; raises BuildError as a tar would fail.

    owner: whom all that the archive names is given to (--chown); now: mtime of implied folders.
    """
    inside = _Destination(canvas, dest, now)
    times: list[tuple[str, int]] = []
    for entry in archive.entries:
        name = clean("/" + entry.path)[1:]
        if not name:
            continue  # the archive's own `./` leaves the destination as it is
        folder, _, base = name.rpartition("/")
        path = join(inside.folder(folder), base)
        there = canvas.get(path)
        if there is not None and not (there.kind == FOLDER == entry.kind):
            canvas.remove(path)
        new = _entry(entry, path, owner)
        if entry.kind == FILE and entry.hardlink is not None:
            inside.link(new, entry.hardlink)
        else:
            canvas.put(new, (archive.layer, entry) if entry.kind == FILE else None)
        if entry.kind == FOLDER:
            times.append((path, new.mtime))
    for path, mtime in times:
        canvas.stamp(path, mtime)  # behind their contents, which touched them


def _entry(entry: Entry, path: str, owner: tuple[int, int] | None) -> Entry:
    uid, gid = owner if owner is not None else (entry.uid, entry.gid)
    return entry.replace(
        path=path,
        uid=uid,
        gid=gid,
        mode=0o777 if entry.kind == SYMLINK else entry.mode,
        mtime=max(entry.mtime, 0),
        xattrs=capability_of(entry),
        hardlink=None,
        implied=False,
    )


class _Destination:
    """The destination folder as a root: paths in it are resolved as if nothing else were."""

    def __init__(self, canvas: Canvas, dest: str, now: int) -> None:
        self._canvas = canvas
        self._dest = dest
        self._now = now

    def get(self, path: str) -> Entry | None:
        return self._canvas.get(join(self._dest, path))

    def folder(self, path: str) -> str:
        """The folder at `path`, made where the archive only implies it."""
        if not path:
            return self._dest
        resolved = join(self._dest, self._resolve(path, last=True))
        if self.get(self._resolve(path, last=False)) is None:
            self._canvas.make_folders(resolved, 0o755, (0, 0), self._now)
        elif not self._canvas.is_folder(resolved):
            raise BuildError(
                f"'{path}' in the archive is no folder but has entries in it", code="bad-archive"
            )
        return resolved

    def link(self, new: Entry, target: str) -> None:
        """A hard link to what is at `target` already, in the archive or in the destination before."""
        first = join(self._dest, self._resolve(target, last=False))
        there = self._canvas.get(first)
        if there is None:
            raise BuildError(
                f"hard link '{new.path}' in the archive names '{target}', which is not there before it",
                code="bad-archive",
            )
        if there.kind == FILE:
            self._canvas.link(first, new)
        elif there.kind == FOLDER:
            raise BuildError(f"hard link '{new.path}' in the archive names a folder", code="bad-archive")
        else:
            self._canvas.put(there.replace(path=new.path), None)

    def _resolve(self, path: str, *, last: bool) -> str:
        try:
            return resolve(clean("/" + path), self.get, last=last)
        except TooManyLinks as error:
            raise BuildError(f"too many symbolic links on the way to '{path}'", code="link-loop") from error
