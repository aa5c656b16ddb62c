"""Which order of instructions would do better, told in seconds. Pure: compiling is handed in.

Moves (see `order`) are tried one at a time: each makes another Dockerfile, which is compiled, and its model
says what the measured changes would cost then. The one that saves most is taken, and so on from there, until
none saves enough to be worth a person's while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from builder.bench.model import Model, Step, model_of
from builder.bench.order import Move, Refused, Subject, moves
from builder.bench.values import Saving, Suggestion
from builder.errors import BuildError

MOST = 20
WORTH_SECONDS = 0.2
WORTH_SHARE = 0.05

ARGUMENT = "another value, for the bench"

Compile = Callable[[str, Mapping[str, str]], Subject]
Seconds = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Change:
    """A part of the context, the file that stands for it, what it was measured to cost, steps seen spared.

    argument: the name of a build argument that has another value, and no file is changed.
    """

    part: str
    file: str
    seconds: float
    spared: frozenset[str] = frozenset()
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """What is proposed, in the order in which it is done; the text that results; RUNs that cannot go up."""

    suggestions: tuple[Suggestion, ...]
    text: str
    refused: tuple[Refused, ...]


def advise(subject: Subject, again: Compile, seconds: Seconds, changes: Sequence[Change]) -> Advice:
    """The better order of a Dockerfile, given how long steps take and which changes there are."""
    original = subject
    suggestions: list[Suggestion] = []
    refused: dict[str, Refused] = {}
    for _ in range(MOST):
        before = costs(subject, again, seconds, changes)
        best: tuple[float, Move, Subject, tuple[Saving, ...]] | None = None
        for move in moves(subject):
            if isinstance(move, Refused):
                refused.setdefault(move.run.original, move)
                continue
            try:
                tried = again(move.text, {})
            except BuildError:
                continue  # what cannot be compiled is no proposal
            savings = _savings(before, costs(tried, again, seconds, changes), changes)
            total = sum(saving.before - saving.after for saving in savings)
            if savings and (best is None or total > best[0]):
                best = (total, move, tried, savings)
        if best is None:
            break
        _total, move, subject, savings = best
        lines = tuple(_line(original, step.original) for step in (move.moved, move.run))
        suggestions.append(Suggestion(told(move, lines, savings, changes), lines, savings))
    moved = {suggestion.lines[1] for suggestion in suggestions}
    kept = tuple(r for r in refused.values() if _line(original, r.run.original) not in moved)
    return Advice(tuple(suggestions), subject.dockerfile.source.text if suggestions else "", kept)


def costs(subject: Subject, again: Compile, seconds: Seconds, changes: Sequence[Change]) -> list[float]:
    """What each change costs with this order."""
    model = model_of(subject.program, subject.tree, seconds)
    return [
        model.takes(other_steps(subject, model, again, change.argument))
        if change.argument
        else model.takes(model.rerun(change.file, change.spared))
        for change in changes
    ]


def other_steps(subject: Subject, model: Model, again: Compile, argument: str) -> list[Step]:
    """The steps that another value of a build argument runs again; none where it cannot have another."""
    try:
        other = again(subject.dockerfile.source.text, {argument: ARGUMENT})
    except BuildError:
        return []
    return model.other_than(model_of(other.program, other.tree, {}))


def _savings(before: list[float], after: list[float], changes: Sequence[Change]) -> tuple[Saving, ...]:
    """What is saved, where it is worth telling; nothing if some change would cost more than now."""
    found = []
    for change, was, would in zip(changes, before, after, strict=True):
        if would > was + WORTH_SECONDS:
            return ()
        if was - would >= max(WORTH_SECONDS, WORTH_SHARE * was):
            found.append(Saving(change.part, was, would))
    return tuple(found)


def _line(subject: Subject, original: str) -> int:
    """The line of an instruction of the Dockerfile as it is."""
    steps = subject.dockerfile.instructions
    return next((step.span.line for step in steps if step.original == original), 0)


def told(move: Move, lines: tuple[int, ...], savings: tuple[Saving, ...], changes: Sequence[Change]) -> str:
    """A suggestion as a person reads it."""
    whole = {change.part: change.seconds for change in changes}
    most = max(savings, key=lambda saving: saving.before - saving.after)
    parts = [saving.part for saving in sorted(savings, key=lambda saving: saving.after - saving.before)]
    moved, run = short(move.moved.original), short(move.run.original)
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    first = f"copy {' and '.join(move.files)} first, " if move.files else ""
    return (
        f"line {lines[0]} `{moved}` stands before line {lines[1]} `{run}`: "
        f"{first}move it below line {lines[1]}: would save {amount(most.before - most.after)} of "
        f"{amount(max(whole.get(most.part, 0.0), most.before))} for changes in {shown}"
    )


def short(text: str, width: int = 60) -> str:
    """An instruction on one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def amount(seconds: float) -> str:
    """A time for a sentence: `41 s`, `0.8 s`."""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
