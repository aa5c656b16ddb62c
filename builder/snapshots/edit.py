"""An edit: the folders in which a layer comes to be, and the id that it will have.

By OVERLAY, what changes is written to a folder of its own; by COPY, to a copy of all that is below.

On the path of a fully cached build, for the sake of ids.
"""

from __future__ import annotations

import os

from builder.snapshots.snapshot import LayerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.snapshots.copies import Copied
    from builder.store.ingest import IngestFolder

OVERLAY, COPY = "overlay", "copy"
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_LETTER_SET = frozenset(_LETTERS)
_LENGTH = 16


def new_id() -> LayerId:
    """A random layer id: 80 bits in base32, short enough for overlay's options."""
    return LayerId("".join([_LETTERS[byte & 31] for byte in os.urandom(_LENGTH)]))


def is_id(name: str) -> bool:
    """Whether a text has the form of a layer id, and so may be part of a path."""
    return len(name) == _LENGTH and _LETTER_SET.issuperset(name)


class Edit:
    """The upper and work folders of an overlay whose changes may become the layer `id`.

    Leaving the block without a commit discards it. `folder` is what becomes the layer's, `upper` in it by the
    name `tree`; `place` is where they lie, and what else is for as long as the edit. copied: where `upper` is
    no overlay's but the whole root, how that was made. put_away: who removes the folders in his own time.
    """

    __slots__ = ("_ingest", "copied", "folder", "id", "place", "put_away", "upper", "work")

    def __init__(self, ingest: IngestFolder, tree: str) -> None:
        from pathlib import Path

        self._ingest: IngestFolder | None = ingest
        self.copied: Copied | None = None
        self.put_away: Callable[[Callable[[], None]], None] | None = None
        self.place = ingest.path
        self.id = new_id()
        self.folder = os.path.join(ingest.path, "layer")
        self.upper = Path(self.folder, tree)
        self.work = Path(ingest.path, "work")
        for path in (self.folder, self.upper, self.work):
            os.mkdir(path, 0o700)
        os.chmod(self.upper, 0o755)

    def discard(self) -> None:
        """Remove the folders, unless they became a layer; more than once does no harm."""
        ingest, self._ingest = self._ingest, None
        if ingest is None:
            return
        if self.put_away is None:
            ingest.close()
        else:
            self.put_away(ingest.close)

    def __enter__(self) -> Edit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
