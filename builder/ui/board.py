"""The state of a build as a terminal shows it: a fold over events, and the rows that fit a screen.

Pure: no clock, no terminal. A row is a list of (text, style) with styles of `stream.STYLES`. What runs
comes first where there is little room, then what failed, then what ended last.
On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

from builder import events
from builder.ui.words import clean, one_line, plural, seconds, transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = list[tuple[str, str]]

LOG_LINES = 6
MARKS = {"running": "●", "waiting": "◌", "cached": "✔", "done": "✔", "failed": "✘", "cancelled": "–"}
PLAIN_MARKS = {"running": "*", "waiting": "~", "cached": "+", "done": "+", "failed": "x", "cancelled": "-"}
STYLE_OF = {
    "running": "busy", "waiting": "warn", "cached": "good", "done": "good",
    "failed": "bad", "cancelled": "dim",
}  # fmt: skip


class Item:
    """One vertex or export on the board."""

    __slots__ = ("is_step", "label", "logs", "seconds", "started", "state", "transfers")

    def __init__(self, label: str, *, is_step: bool = True) -> None:
        self.label = label
        self.is_step = is_step
        self.state = ""
        self.started = 0.0
        self.seconds = 0.0
        self.logs: list[str] = []
        self.transfers: dict[str, tuple[int, int, str]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether it runs or waits."""
        return self.state in ("running", "waiting")


class Board:
    """All that a build has told so far. `touched` is set by whatever changes a row."""

    def __init__(self, *, fancy: bool = True) -> None:
        self.marks = MARKS if fancy else PLAIN_MARKS
        self.bar, self.more = ("│", "…") if fancy else ("|", "...")
        self.name = ""
        self.started: float | None = None
        self.known: dict[str, Item] = {}
        self.begun: dict[str, Item] = {}
        self.steps = 0
        self.warnings: list[events.Warned] = []
        self.removed: list[events.Removed] = []
        self.finished: events.BuildFinished | None = None
        self.touched = False

    @property
    def is_working(self) -> bool:
        """Whether something needed to run: a fully cached build never does."""
        return any(item.state not in ("cached", "") for item in self.begun.values())

    def emit(self, event: events.AnyEvent) -> None:
        """Fold an event in."""
        self.touched = True
        self.started = event.time if self.started is None else self.started
        match event:
            case events.BuildStarted():
                self.name = one_line(event.name)
            case events.Planned():
                self.steps += len(event.vertices)
                for vertex in event.vertices:
                    self.known[vertex.digest] = Item(one_line(vertex.label))
            case events.Started():
                self._begin(event.vertex, "running", event.time)
            case events.Waiting():
                self._begin(event.vertex, "waiting", event.time)
            case events.Cached():
                self._end(event.vertex, "cached", 0.0)
            case events.Finished():
                self._end(event.vertex, "done", event.seconds)
            case events.Failed():
                self._end(event.vertex, "cancelled" if event.cancelled else "failed", event.seconds)
            case events.Log():
                item = self._item(event.vertex)
                item.logs.append(clean(event.line))
                del item.logs[:-LOG_LINES]
            case events.Progress():
                amounts = (event.done, event.total, event.unit)
                self._item(event.vertex).transfers[one_line(event.item)] = amounts
            case events.ExportStarted():
                label = one_line(f"{event.verb} {event.name}")
                self.known[f"export {event.name}"] = Item(label, is_step=False)
                self._begin(f"export {event.name}", "running", event.time)
            case events.ExportFinished():
                self._end(f"export {event.name}", "done", event.seconds)
            case events.Warned():
                self.warnings.append(event)
            case events.Removed():
                self.removed.append(event)
            case events.BuildFinished():
                self.finished = event
            case events.BuildFailed():
                pass

    def rows(self, now: float, width: int, height: int) -> list[Row]:
        """The board on a screen of this size: a heading and, below it, as much as fits."""
        room = max(1, height - 2)
        busy = [item for item in self.begun.values() if item.is_busy]
        ended = [item for item in self.begun.values() if not item.is_busy]
        shown = busy[:room]
        left = room - len(shown)
        details = {id(item): self._details(item, share) for item, share in _shares(shown, left)}
        left -= sum(map(len, details.values()))
        # One row for "… 12 earlier" where not all that ended fit.
        last = ended if len(ended) <= left else ended[len(ended) - left + 1 :] if left > 1 else []
        kept = {id(item) for item in [*shown, *last]}
        rows = [self._heading(now, width)]
        if len(last) < len(ended) and left > 0:
            rows.append([(f"  {self.more} {len(ended) - len(last)} earlier", "dim")])
        for item in self.begun.values():
            if id(item) in kept:
                rows.append(self._line(item, now, width))
                rows += [self._detail(text, width) for text in details.get(id(item), ())]
        return rows

    def final_rows(self, width: int) -> list[Row]:
        """Every step with its outcome, for the scroll-back; what is still under way now was cancelled."""
        for item in self.begun.values():
            item.state = "cancelled" if item.is_busy else item.state
        return [self._line(item, item.started, width) for item in self.begun.values()]

    def _item(self, key: str) -> Item:
        if key not in self.known:
            self.known[key] = Item(clean(key[:19]))
        return self.known[key]

    def _begin(self, key: str, state: str, now: float) -> None:
        item = self.begun[key] = self._item(key)
        item.state, item.started = state, now

    def _end(self, key: str, state: str, spent: float) -> None:
        item = self.begun[key] = self._item(key)
        item.state, item.seconds = state, spent
        item.logs, item.transfers = [], {}

    def _heading(self, now: float, width: int) -> Row:
        ended = [item for item in self.begun.values() if item.is_step and not item.is_busy]
        cached = sum(item.state == "cached" for item in ended)
        counts = f"{len(ended)}/{self.steps}" if self.steps else ""
        if cached:
            counts += f", {cached} cached"
        right = " ".join(part for part in (counts, seconds(now - (self.started or now))) if part)
        title = f"building {self.name}".rstrip() if self.name else "building"
        return _justify([(fit(title, width - len(right) - 1, self.more), "bold")], right, width)

    def _line(self, item: Item, now: float, width: int) -> Row:
        match item.state:
            case "cached":
                right = "CACHED"
            case "cancelled":
                right = "CANCELED"
            case "waiting":
                right = f"waiting for another build {seconds(now - item.started)}"
            case "running":
                right = seconds(now - item.started)
            case _:
                right = seconds(item.seconds)
        style = STYLE_OF[item.state]
        label = fit(item.label, width - len(right) - 4, self.more)
        text_style = "bold" if item.state in ("running", "failed") else ""
        return _justify([(f" {self.marks[item.state]} ", style), (label, text_style)], right, width)

    def _details(self, item: Item, share: int) -> list[str]:
        """The transfers that go on, then the last lines that it wrote; at most `share`."""
        going = [(name, a) for name, a in item.transfers.items() if not a[1] or a[0] < a[1]]
        texts = [f"{name} {transfer(*amounts)}" for name, amounts in going]
        over = len(item.transfers) - len(going)
        if over and going:
            texts.append(f"{plural(over, 'transfer')} done")
        texts += item.logs
        return texts[-share:] if share > 0 else []

    def _detail(self, text: str, width: int) -> Row:
        return [(f"   {self.bar} {fit(text, width - 5, self.more)}".rstrip(), "dim")]


def _shares(items: list[Item], left: int) -> Iterable[tuple[Item, int]]:
    """The rows each busy item may have below its own, the last begun first in what remains."""
    for index, item in enumerate(items):
        share = min(LOG_LINES, left // (len(items) - index))
        left -= min(share, len(item.logs) + len(item.transfers))
        yield item, share


def _justify(left: Row, right: str, width: int) -> Row:
    used = sum(cells(text) for text, _ in left)
    return [*left, (" " * max(1, width - used - len(right)), ""), (right, "dim")]


def fit(text: str, width: int, more: str = "…") -> str:
    """The text, cut so that it fills at most `width` cells of a terminal."""
    if width <= 0:
        return ""
    if cells(text) <= width:
        return text
    if width <= len(more):
        return more[:width]
    room, kept = width - len(more), []
    for mark in text:
        room -= cells(mark)
        if room < 0:
            break
        kept.append(mark)
    return "".join(kept) + more


def cells(text: str) -> int:
    """How many cells of a terminal the text fills (UAX #11: wide characters take two, marks none)."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(mark) else 2 if unicodedata.east_asian_width(mark) in "WF" else 1
        for mark in text
    )
