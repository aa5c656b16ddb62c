"""`--progress plain`: numbered lines for logs and files, with no escape sequence in them.

Steps run side by side, but lines of one stand together: a step holds the floor while it speaks, and the
others' lines are kept until it ends, falls silent, or has held the floor for long. A step that ends is
shown at once. On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

from builder import events
from builder.ui.report import closing_line, removed_lines, warning_lines
from builder.ui.words import clean, one_line, transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.ui.stream import Stream

HOLD_SECONDS = 5.0
SILENCE_SECONDS = 1.0
KEPT_LINES = 1000
PROGRESS_SECONDS = 5.0
PROGRESS_SHARE = 0.05


class Item:
    """What is shown under one number: a vertex or an export."""

    __slots__ = ("ended", "kept", "label", "number", "progress", "started", "waits")

    def __init__(self, label: str) -> None:
        self.label = label
        self.number = 0
        self.started = 0.0
        self.ended = False
        self.kept: list[str] = []
        self.waits: float | None = None
        self.progress: dict[str, tuple[float, int]] = {}


class Plain:
    """The reader."""

    interval = 1.0

    def __init__(self, out: Stream) -> None:
        self.out = out
        self.items: dict[str, Item] = {}
        self.numbers = 0
        self.holder: Item | None = None
        self.held_since = 0.0
        self.spoke = 0.0
        self.shown: Item | None = None
        self.warnings: list[events.Warned] = []
        self.removed: list[events.Removed] = []

    def emit(self, event: events.AnyEvent) -> None:
        """Show an event, now or when its step has the floor."""
        match event:
            case events.Planned():
                for vertex in event.vertices:
                    self.items[vertex.digest] = Item(one_line(vertex.label))
            case events.Started():
                self._begin(self._item(event.vertex), event.time)
            case events.Log():
                item = self._item(event.vertex)
                self._say(item, event.time, f"{event.time - item.started:.3f} {clean(event.line)}".rstrip())
            case events.Progress():
                self._progress(self._item(event.vertex), event)
            case events.Waiting():
                self._say(self._item(event.vertex), event.time, "waiting for another build that makes it")
            case events.Cached():
                self._end(self._item(event.vertex), event.time, "CACHED")
            case events.Finished():
                self._end(self._item(event.vertex), event.time, f"DONE {event.seconds:.1f}s")
            case events.Failed():
                text = "CANCELED" if event.cancelled else f"ERROR: {one_line(event.error)}"
                self._end(self._item(event.vertex), event.time, text)
            case events.ExportStarted():
                self.items[_export(event.name)] = item = Item(one_line(f"{event.verb} {event.name}"))
                self._begin(item, event.time)
            case events.ExportFinished():
                self._end(self._item(_export(event.name)), event.time, f"DONE {event.seconds:.1f}s")
            case events.Warned():
                self.warnings.append(event)
            case events.Removed():
                self.removed.append(event)
            case events.BuildFinished():
                self._close([*removed_lines(self.removed), closing_line(event)])
            case events.BuildFailed():
                self._close([])
            case events.BuildStarted():
                pass

    def tick(self, now: float) -> None:
        """Pass the floor on where others have waited long enough."""
        held, silent = now - self.held_since, now - self.spoke
        if self.holder is None or held >= HOLD_SECONDS or silent >= SILENCE_SECONDS:
            self._pass_floor(now)

    def close(self) -> None:
        """Show what is still kept."""
        for item in self.items.values():
            self._show(item, [])

    def _item(self, key: str) -> Item:
        if key not in self.items:  # an event of something that was not planned
            self.items[key] = Item(clean(key[:19]))
        return self.items[key]

    def _begin(self, item: Item, now: float) -> None:
        item.started = now
        self._say(item, now)

    def _say(self, item: Item, now: float, *lines: str) -> None:
        """Show lines of a step that goes on, if it has the floor or can have it; else keep them."""
        if self.holder is None:
            self.holder, self.held_since = item, now
        if self.holder is item:
            self.spoke = now
            self._show(item, list(lines))
            return
        item.kept.extend(lines)
        item.waits = now if item.waits is None else item.waits
        if len(item.kept) > KEPT_LINES:
            self._pass_floor(now, item)
        else:
            self.tick(now)

    def _end(self, item: Item, now: float, line: str) -> None:
        item.waits = now
        self._show(item, [line])
        item.ended = True
        self.shown = None
        if self.holder is item:
            self.holder = None
            self._pass_floor(now)

    def _pass_floor(self, now: float, to: Item | None = None) -> None:
        waiting = [item for item in self.items.values() if item.waits is not None]
        if to is None and not waiting:
            return
        self.holder = to or min(waiting, key=lambda item: item.waits or 0.0)
        self.held_since = self.spoke = now
        self._show(self.holder, [])

    def _progress(self, item: Item, event: events.Progress) -> None:
        """Show a transfer when it is over, and before that when it went on by 5 % or for 5 s."""
        over = event.total > 0 and event.done >= event.total
        last_time, last_done = item.progress.get(event.item, (float("-inf"), 0))
        if last_done >= event.total > 0:
            return
        share = (event.done - last_done) / event.total if event.total else 0.0
        if not over and share < PROGRESS_SHARE and event.time - last_time < PROGRESS_SECONDS:
            return
        item.progress[event.item] = (event.time, event.done)
        amount = transfer(event.done, event.total, event.unit)
        self._say(item, event.time, f"{one_line(event.item)} {amount}{' done' if over else ''}")

    def _show(self, item: Item, lines: list[str]) -> None:
        """Write what was kept of a step and these lines, under its heading."""
        lines = item.kept + lines
        wanted = bool(lines) or item.waits is not None or item.number == 0
        if not wanted or item.ended or (item.number == 0 and not item.started and not lines):
            return
        item.kept, item.waits = [], None
        text = []
        if self.shown is not item:
            if self.shown is not None:
                text.append(f"#{self.shown.number} ...")
            if self.numbers:
                text.append("")
            if not item.number:
                self.numbers += 1
                item.number = self.numbers
            text.append(f"#{item.number} {item.label}")
            self.shown = item
        text += [f"#{item.number} {line}" for line in lines]
        if text:
            self.out.write("\n".join(text) + "\n")

    def _close(self, lines: list[str]) -> None:
        self.close()
        text = [*warning_lines(self.warnings), *lines]
        if self.warnings and not lines:  # an error is told next
            text.append("")
        self.warnings = []
        if self.numbers:  # a blank line, before these or before the error that is told next
            text.insert(0, "")
        self.out.write("".join(f"{line}\n" for line in text))


def _export(name: str) -> str:
    return f"export {name}"
