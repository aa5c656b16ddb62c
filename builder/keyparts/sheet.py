"""A sheet: the steps of one build, each with the named parts of its key. Values, and their way to disk. Pure.

Who reads one takes nothing for granted: what does not have the form of a sheet is none. Environments are
kept once each, as all RUNs of a stage mostly share theirs, and there is a bound for all of them.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec

from builder.digest import hex_of, of_value
from builder.graph.selection import Selection

FORMAT = 1
MOST_STEPS = 20_000  # of a build with more, nothing is kept
MOST_VARIABLES = 100_000  # of all environments of a sheet; further ones are kept by their digests alone


class Taken(msgspec.Struct, frozen=True):
    """An input: the number of its step, and what of it counts.

    select: what is selected, as plain data, None where the input counts by its key; content: the digest of
    that, None where it is not known; rows: the name of its listing.
    """

    of: int
    select: list[Any] | None = None
    content: str | None = None
    rows: str = ""


class Step(msgspec.Struct, frozen=True):
    """A vertex with what its key is made of.

    kind: as ops.named has it; parts: see keyparts.veil; key: None where it is not known; seconds: how long it
    took, where it ran; forced: why it runs whatever the cache has, "" where it does not.
    """

    digest: str
    label: str
    stage: str
    line: int
    internal: bool
    kind: str
    parts: dict[str, Any]
    key: str | None = None
    inputs: tuple[Taken, ...] = ()
    seconds: float | None = None
    forced: str = ""


class Sheet(msgspec.Struct, frozen=True):
    """A build's steps, in topological order.

    begun: when it began, in seconds; context: its folder (or address); ignores: context's name -> name and
    text of its ignore file.
    """

    context: str
    dockerfile: str
    target: str
    platform: str
    steps: tuple[Step, ...]
    begun: float = 0.0
    ignores: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)


def rows_name(content: str, select: Selection | list[Any]) -> str:
    """What the listing of a selection with this content is called."""
    plain = select.plain() if isinstance(select, Selection) else select
    return hex_of(of_value([content, plain]))[:32]


def encode(sheet: Sheet) -> bytes:
    """A sheet as bytes."""
    environments: list[Any] = []
    numbers: dict[str, int] = {}
    room = MOST_VARIABLES
    rows: list[Any] = []
    for step in sheet.steps:
        parts = dict(step.parts)
        if "env" in parts:
            name = json.dumps(parts["env"])
            if name not in numbers:
                room -= len(parts["env"])
                numbers[name] = len(environments)
                environments.append(parts["env"] if room >= 0 else {"": hex_of(of_value(name))[:16]})
            parts["env"] = numbers[name]
        rows.append(
            [step.digest, step.label, step.stage, step.line, step.internal, step.kind, parts, step.key,
             [[i.of, i.select, i.content, i.rows] for i in step.inputs], step.seconds, step.forced]
        )  # fmt: skip
    data = {
        "format": FORMAT,
        "begun": sheet.begun,
        "context": sheet.context,
        "dockerfile": sheet.dockerfile,
        "target": sheet.target,
        "platform": sheet.platform,
        "ignores": sheet.ignores,
        "environments": environments,
        "steps": rows,
    }
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode("ascii"), 1)


def decode(data: bytes) -> Sheet:
    """The inverse. Raises ValueError for what is none."""
    try:
        read = json.loads(zlib.decompress(data))
        if read["format"] != FORMAT:
            raise ValueError(f"a sheet of format {read['format']}")
        return Sheet(
            context=str(read["context"]),
            dockerfile=str(read["dockerfile"]),
            target=str(read["target"]),
            platform=str(read["platform"]),
            steps=tuple(_step(row, read["environments"], number) for number, row in enumerate(read["steps"])),
            begun=float(read["begun"]),
            ignores={str(k): (str(name), str(text)) for k, (name, text) in read["ignores"].items()},
        )
    except (zlib.error, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"not a sheet: {error}") from error


def _step(row: list[Any], environments: list[Any], number: int) -> Step:
    digest, label, stage, line, internal, kind, parts, key, inputs, seconds, forced = row
    if "env" in parts:
        parts = {**parts, "env": dict(environments[parts["env"]])}
    taken = tuple(Taken(int(of), select, content, str(rows)) for of, select, content, rows in inputs)
    if any(not 0 <= item.of < number for item in taken):
        raise ValueError("a step stands on one behind it")
    return Step(
        str(digest), str(label), str(stage), int(line), bool(internal), str(kind), dict(parts),
        None if key is None else str(key), taken, None if seconds is None else float(seconds), str(forced),
    )  # fmt: skip
