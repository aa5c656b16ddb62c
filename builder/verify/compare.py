"""Several images of one build beside each other: which step gave something else, and what of it. Pure.

The images are told apart by name: the one that is verified, and its rebuilds. Their histories are aligned, so
that a step which only one of them has is told as such and does not shift the rest. Layers of equal diff ids
are equal, and are not looked into.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from builder.snapshots.snapshot import Entry
from builder.verify import trees
from builder.verify.trees import MISSING, TIME, WRITING, Difference

TIMES = ("created",)  # fields of configs and histories that are times
STEP = "step"  # what is missing of a history that lacks an entry
UNKNOWN_STEP = "a layer that the history does not tell of"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image. blob: the digest of its compressed bytes; entries: reads them, files hashed."""

    diff_id: str
    blob: str
    entries: Callable[[], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Step:
    """A history entry as plain data, and its layer where it made one."""

    history: Mapping[str, Any]
    layer: Layer | None

    @property
    def label(self) -> str:
        """What it did."""
        return str(self.history.get("created_by") or UNKNOWN_STEP)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for one platform. config: its document but for history and layers, as plain data."""

    digest: str
    config: Mapping[str, Any]
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class StepReport:
    """A step of which something differs. number counts from 1; files and about: what its layer and its entry
    in the history have."""

    number: int
    label: str
    files: tuple[Difference, ...] = ()
    about: tuple[Difference, ...] = ()

    def all(self) -> tuple[Difference, ...]:
        """All that differs."""
        return (*self.files, *self.about)


@dataclass(frozen=True, slots=True)
class Report:
    """What differs for one platform. steps: how many there are in all; digests: of the manifests, by image;
    repacked: layers that are equal, and compressed otherwise."""

    platform: str
    digests: Mapping[str, str]
    steps: int
    differing: tuple[StepReport, ...] = ()
    config: tuple[Difference, ...] = ()
    repacked: int = 0

    def all(self) -> tuple[Difference, ...]:
        """All that differs, of whatever step."""
        return (*(found for step in self.differing for found in step.all()), *self.config)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found. image: what it was called; names: of the images that were compared, that one first;
    absent: platforms that not all of them have, with those that do."""

    image: str
    names: tuple[str, ...]
    reports: tuple[Report, ...]
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Whether nothing differs at all."""
        return not self.absent and not any(report.all() for report in self.reports)

    @property
    def only_times(self) -> bool:
        """Whether nothing but times differs, and something does."""
        kinds = {kind for report in self.reports for found in report.all() for kind in found.kinds}
        return not self.absent and kinds == {TIME}


def compare(platform: str, pictures: Mapping[str, Picture]) -> Report:
    """What differs among images for one platform, by their names."""
    rows = _aligned({name: picture.steps for name, picture in pictures.items()})
    differing = []
    repacked = 0
    for number, row in enumerate(rows, 1):
        report = _compare_step(number, row)
        if report.all():
            differing.append(report)
        blobs = {step.layer.blob for step in row.values() if step and step.layer}
        repacked += len(blobs) > 1 and not report.files
    return Report(
        platform,
        {name: picture.digest for name, picture in pictures.items()},
        len(rows),
        tuple(differing),
        tuple(_compare_plain({name: picture.config for name, picture in pictures.items()})),
        repacked,
    )


Row = Mapping[str, Step | None]


def _aligned(steps: Mapping[str, Sequence[Step]]) -> list[Row]:
    """The steps side by side: those of the first image, and where only others have one, that."""
    first, *others = steps
    rows: list[dict[str, Step | None]] = [{first: step} for step in steps[first]]
    before: list[list[dict[str, Step | None]]] = [[] for _ in range(len(rows) + 1)]
    for name in others:
        matcher = SequenceMatcher(
            None, [step.label for step in steps[first]], [step.label for step in steps[name]], autojunk=False
        )
        for tag, start, end, begin, stop in matcher.get_opcodes():
            pairs = min(end - start, stop - begin) if tag in ("equal", "replace") else 0
            for offset in range(pairs):
                rows[start + offset][name] = steps[name][begin + offset]
            for step in steps[name][begin + pairs : stop]:
                _take(before[end], name, step)
    merged = [*(row for at, own in enumerate(rows) for row in (*before[at], own)), *before[-1]]
    return [{name: row.get(name) for name in steps} for row in merged]


def _take(rows: list[dict[str, Step | None]], name: str, step: Step) -> None:
    """Put a step that the first image lacks beside the equal one of another rebuild, else by itself."""
    for row in rows:
        if name not in row and any(other and other.label == step.label for other in row.values()):
            row[name] = step
            return
    rows.append({name: step})


def _compare_step(number: int, row: Row) -> StepReport:
    label = next(step.label for step in row.values() if step is not None)
    if None in row.values():
        there = {name: "step" if step else "" for name, step in row.items()}
        return StepReport(number, label, about=(Difference(STEP, {MISSING: there}),))
    steps = {name: step for name, step in row.items() if step is not None}
    return StepReport(
        number,
        label,
        tuple(_compare_layers({name: step.layer for name, step in steps.items()})),
        tuple(_compare_plain({name: step.history for name, step in steps.items()})),
    )


def _compare_layers(layers: Mapping[str, Layer | None]) -> list[Difference]:
    ids = {name: layer.diff_id if layer else "" for name, layer in layers.items()}
    if len(set(ids.values())) == 1:
        return []
    read: dict[str, Sequence[Entry]] = {}
    for layer in layers.values():
        if layer is not None and layer.diff_id not in read:
            read[layer.diff_id] = layer.entries()
    found = trees.compare({name: read[diff_id] if diff_id else () for name, diff_id in ids.items()})
    return found or [Difference(".", {WRITING: ids})]


def _compare_plain(values: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """What differs among documents, by the names of fields as `config.Env`."""
    flat = {name: dict(_flatten(value, "")) for name, value in values.items()}
    found = []
    for path in sorted({path for table in flat.values() for path in table}):
        there = {name: table.get(path) for name, table in flat.items()}
        if len(set(there.values())) > 1:
            kind = TIME if path.rpartition(".")[2] in TIMES else trees.CONTENT
            kind = MISSING if None in there.values() else kind
            found.append(Difference(path, {kind: {name: text or "" for name, text in there.items()}}))
    return found


def _flatten(value: Any, path: str) -> list[tuple[str, str]]:
    """A document as (path, text) of what it holds; each variable of an environment by itself."""
    if path.endswith("Env") and isinstance(value, list):
        value = dict(str(item).partition("=")[::2] for item in value)
    if isinstance(value, Mapping) and (value or not path):
        return [row for key in value for row in _flatten(value[key], f"{path}.{key}" if path else str(key))]
    return [(path, value if isinstance(value, str) else json.dumps(value, sort_keys=True))]
