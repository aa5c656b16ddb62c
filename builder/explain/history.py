"""What earlier builds tell: their sheets laid beside the one in question, seconds by keys, what became of
records. The disk is behind `Past`'s functions; all that is decided here is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from builder.explain.differences import differences
from builder.explain.nearest import align
from builder.explain.paths import compare
from builder.keyparts.rows import Listing
from builder.keyparts.sheet import Sheet, Step, Taken

MOST_LISTINGS = 8  # pairs of listings that are compared to find the nearest step
MOST_ROWS = 400_000  # rows that are compared for that
OTHER_BASE = 2.0  # what it counts that a step stands on another one
OTHER_TARGET = 0.5


@dataclass(frozen=True, slots=True)
class Past:
    """Where the past is read.

    own: the sheets of the same context and Dockerfile, the last first; others: gives (line, sheet) of other
    ones; rows: (line, name) -> a listing, if it is there; line: of the own ones.
    """

    line: str
    own: Sequence[Sheet]
    others: Callable[[], Iterable[tuple[str, Sheet]]]
    rows: Callable[[str, str], Listing | None]


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A step of an earlier build that is the same step as one in question."""

    line: str
    sheet: Sheet
    number: int

    @property
    def step(self) -> Step:
        """The step."""
        return self.sheet.steps[self.number]


class History:
    """The past as seen from one sheet. now_rows: a listing of this sheet's, if it is known."""

    def __init__(self, now: Sheet, past: Past, now_rows: Callable[[Taken], Listing | None]) -> None:
        self.now = now
        self.past = past
        self.now_rows = now_rows
        self._own = [(past.line, sheet, align(now, sheet)) for sheet in past.own]
        self._others: list[tuple[str, Sheet, dict[int, int]]] | None = None
        self._seconds: dict[str, float] | None = None
        self._known: set[str] | None = None

    def counterparts(self, number: int) -> list[Counterpart]:
        """The steps that a step was in earlier builds; those of other lines only where its own has none."""
        found = [
            Counterpart(line, sheet, pairs[number]) for line, sheet, pairs in self._own if number in pairs
        ]
        if found:
            return found
        if self._others is None:
            self._others = [(line, sheet, align(self.now, sheet)) for line, sheet in self.past.others()]
        return [
            Counterpart(line, sheet, pairs[number]) for line, sheet, pairs in self._others if number in pairs
        ]

    def nearest(self, number: int, fixed: Callable[[int], bool]) -> Counterpart | None:
        """The counterpart that differs least, the last one of several.

        fixed: whether the key of an input is no news by itself, so that another one there counts.
        """
        step = self.now.steps[number]
        rated = [(self._distance(step, found, fixed), found) for found in self.counterparts(number)]
        if not rated:
            return None
        least = min(distance for distance, _ in rated)
        near = [found for distance, found in rated if distance == least]
        return near[0] if len(near) == 1 else self._fewest_files(step, near)

    def _distance(self, step: Step, found: Counterpart, fixed: Callable[[int], bool]) -> float:
        then, sheet = found.step, found.sheet
        distance = float(len(differences(step.kind, then.parts, step.parts)))
        for item, old in zip(step.inputs, then.inputs, strict=False):
            if item.select is not None:
                distance += item.content is not None and item.content != old.content
            elif fixed(item.of):
                known = self.now.steps[item.of].key
                distance += OTHER_BASE * (known is not None and known != sheet.steps[old.of].key)
        other = (sheet.target, sheet.platform) != (self.now.target, self.now.platform)
        return distance + OTHER_TARGET * other

    def _fewest_files(self, step: Step, near: list[Counterpart]) -> Counterpart:
        """Of counterparts that differ in content, the one of which the fewest files do."""
        inputs = [
            (at, item) for at, item in enumerate(step.inputs) if item.select is not None and item.content
        ]
        best, fewest, compared, rows = near[0], -1, 0, 0
        seen: set[tuple[str, ...]] = set()
        for found in near:
            names = tuple(old.rows for old in found.step.inputs)
            if names in seen or compared >= MOST_LISTINGS or rows > MOST_ROWS:
                continue
            seen.add(names)
            compared += 1
            count = 0
            for at, item in inputs:
                changed, size = self._changed(item, found, at)
                rows += size
                count += changed
            if fewest < 0 or count < fewest:
                best, fewest = found, count
        return best

    def _changed(self, item: Taken, found: Counterpart, at: int) -> tuple[int, int]:
        """(paths that differ, paths looked at)."""
        then = found.step.inputs
        if at >= len(then) or then[at].content == item.content:
            return 0, 0
        now, was = self.now_rows(item), self.past.rows(found.line, then[at].rows)
        if now is None or was is None:
            return MOST_ROWS, 0
        return compare(was, now).count, len(was.rows)

    def was_recorded(self, key: str) -> bool:
        """Whether a build of this context and Dockerfile had a step of this key."""
        if self._known is None:
            self._known = {step.key for sheet in self.past.own for step in sheet.steps if step.key}
        return key in self._known

    def seconds_of(self, key: str | None) -> float | None:
        """How long the step of this key took when it last ran."""
        if key is None:
            return None
        if self._seconds is None:
            self._seconds = {}
            for sheet in reversed(self.past.own):
                self._seconds.update(
                    {step.key: step.seconds for step in sheet.steps if step.key and step.seconds is not None}
                )
        return self._seconds.get(key)
