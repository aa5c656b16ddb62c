"""From states to an account: why each step runs that does. Pure.

States come from whoever solved (a rehearsal, or the events of a build); reasons from laying a step beside its
nearest counterpart of an earlier build. A step that stands on one that runs says so, and tells what is
different of its own besides.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.explain.account import (
    DEPENDS,
    GONE,
    RUNS,
    UNASKED,
    UNSAFE,
    Account,
    Finding,
    Sources,
)
from builder.explain.differences import differences
from builder.explain.history import Counterpart, History
from builder.explain.paths import nothing_hidden, tell
from builder.explain.reason import Reason
from builder.keyparts.rows import Listing
from builder.keyparts.sheet import Step, Taken
from builder.keyparts.veil import shown_of

MACHINES = "this machine's"  # platform, where none was asked for
MOST_BENEATH = 4  # reasons told of a step below that is in the cache


def account_of(history: History, sources: Sources, notes: tuple[str, ...] = ()) -> Account:
    """The account of the history's sheet."""
    return _Accountant(history, sources).account(notes)


class _Accountant:
    def __init__(self, history: History, sources: Sources) -> None:
        self.history = history
        self.sources = sources
        self.steps = history.now.steps
        self.states = [sources.states.get(step.digest, UNASKED) for step in self.steps]
        self.numbers = self._numbers()
        self.forcing = self._find_forcing()
        self.at = {step.digest: at for at, step in enumerate(self.steps)}

    def _numbers(self) -> list[int]:
        """Steps are numbered; of what is internal, those fetches that others depend on."""
        numbers, last = [], 0
        for step in self.steps:
            is_shown = not step.internal or (step.kind == "fetch" and step.key is None)
            last += is_shown
            numbers.append(last if is_shown else 0)
        return numbers

    def account(self, notes: tuple[str, ...]) -> Account:
        findings = tuple(self._finding(at) for at in range(len(self.steps)))
        return Account(findings, _longest(findings), notes)

    def _finding(self, at: int) -> Finding:
        step, state = self.steps[at], self.states[at]
        depends = self._origins(at) if state == DEPENDS else ()
        nearest = (
            self.history.nearest(at, self._is_fixed) if state in RUNS and step.kind != "context" else None
        )
        return Finding(
            number=self.numbers[at],
            step=step,
            state=state,
            reasons=tuple(self._reasons(at, nearest)) if self.numbers[at] else (),
            depends=depends,
            inputs=tuple(item.of for item in step.inputs),
            seconds=self._seconds(at, nearest),
        )

    def _is_fixed(self, at: int) -> bool:
        """Whether a step does not run, so that what stands on it cannot say that it does."""
        return self.states[at] not in RUNS

    def _origins(self, at: int) -> tuple[int, ...]:
        """The numbers of the steps on whose output a step depends."""
        found = [self.at[digest] for digest in self.sources.origins.get(self.steps[at].digest, ())]
        return tuple(sorted({self.numbers[origin] for origin in found if self.numbers[origin]}))

    # ── seconds ──────────────────────────────────────────────────────────────────────────────────────────

    def _seconds(self, at: int, nearest: Counterpart | None) -> float | None:
        step = self.steps[at]
        if self.sources.took is not None:
            return self.sources.took.get(step.digest, 0.0 if self.states[at] not in RUNS else None)
        if self.states[at] not in RUNS:
            return 0.0
        if step.kind in ("scratch", "LINK"):
            return 0.0
        for key in (step.key, nearest.step.key if nearest else None):
            if key is None:
                continue
            known = self.history.seconds_of(key)
            known = self.sources.recorded_seconds(key) if known is None else known
            if known is not None:
                return known
        return nearest.step.seconds if nearest else None

    # ── reasons ──────────────────────────────────────────────────────────────────────────────────────────

    def _reasons(self, at: int, nearest: Counterpart | None) -> Iterator[Reason]:
        step, state = self.steps[at], self.states[at]
        if state not in RUNS:
            if (elsewhere := self.sources.elsewhere.get(step.digest)) is not None:
                yield elsewhere
            return
        if step.forced:
            yield Reason("forced", f"runs because of {step.forced}", {"flag": step.forced})
            return
        if state == DEPENDS:
            yield self._depends(at)
            return
        if step.kind == "fetch" and step.key is None:
            yield Reason("asked", "asked for on each build, as nobody knows what is there")
            return
        below = list(self._below(at))
        yield from below
        if step.key is not None and not below and (lost := self._lost(step)):
            yield lost
            return
        if nearest is None:
            yield Reason("new", f"{step.kind}: no earlier record of this step")
            return
        own = list(self._own(at, nearest))
        yield from own
        if not own and not below:
            yield Reason(
                "unknown", f"{step.kind}: nothing differs from what is known of it, and there is no record"
            )

    def _depends(self, at: int) -> Reason:
        numbers = self._origins(at)
        if not numbers:
            return Reason("depends", "depends on what is fetched")
        steps = "step" if len(numbers) == 1 else "steps"
        names = ", ".join(map(str, numbers))
        return Reason("depends", f"depends on the output of {steps} {names}", {"steps": list(numbers)})

    def _below(self, at: int) -> Iterator[Reason]:
        """That a step stands on others that run: each of its inputs that counts by its key."""
        told = set()
        for item in self.steps[at].inputs:
            if item.select is not None or self.states[item.of] not in RUNS:
                continue
            for number in self._shown_below(item.of):
                if number not in told:
                    told.add(number)
                    forced = self.forcing[item.of]
                    text = f"stands on step {number}, which runs" + (
                        f" because of {forced}" if forced else ""
                    )
                    yield Reason("below", text, {"step": number})

    def _shown_below(self, at: int) -> list[int]:
        """The number of a step, or of those that it is made from where people do not see it."""
        if self.numbers[at]:
            return [self.numbers[at]]
        found = []
        for item in self.steps[at].inputs:
            if self.states[item.of] in RUNS and self.numbers[item.of]:
                found.append(self.numbers[item.of])
        return found

    def _find_forcing(self) -> list[str]:
        """For each step the flag for which it runs, be it one below it that is forced; "" for none."""
        flags: list[str] = []
        for step, state in zip(self.steps, self.states, strict=True):
            below = (flags[item.of] for item in step.inputs if item.select is None) if state in RUNS else ()
            flags.append(step.forced or next(filter(None, below), ""))
        return flags

    def _lost(self, step: Step) -> Reason | None:
        """That there was a record of this very key."""
        assert step.key is not None
        condition = self.sources.condition(step.key)
        if condition == GONE:
            return Reason("pruned", f"{step.kind}: its record's layers are gone: pruned")
        if condition == UNSAFE:
            text = "was made before the machine's last start, and was not safely on the disk by then"
            return Reason("unsafe", f"{step.kind}: its record {text}")
        if self.history.was_recorded(step.key):
            return Reason("pruned", f"{step.kind}: its record is gone: pruned")
        return None

    def _own(self, at: int, nearest: Counterpart) -> Iterator[Reason]:
        """What differs in a step itself, and in what it takes from others that do not run."""
        step, then = self.steps[at], nearest.step
        if step.kind == "FROM":
            yield from self._platform(nearest)
        yield from differences(step.kind, then.parts, step.parts)
        if len(step.inputs) != len(then.inputs):
            if step.kind in ("COPY", "ADD"):
                yield Reason(
                    "sources", f"{step.kind}: it takes from {_places(step)}, took from {_places(then)}"
                )
            return
        for place, (item, old) in enumerate(zip(step.inputs, then.inputs, strict=True)):
            if item.select is not None and old.select is not None:
                yield from self._content(at, place, item, old, nearest)
            elif item.select is None and old.select is None and self.states[item.of] not in RUNS:
                yield from self._beneath(item.of, old.of, nearest, place)

    def _platform(self, nearest: Counterpart) -> Iterator[Reason]:
        """That a base image is another one because it is for another platform."""
        was, now = nearest.sheet.platform, self.history.now.platform
        if was != now:
            text = f"FROM: platform was {was or MACHINES}, is {now or MACHINES}"
            yield Reason("field", text, {"field": "platform", "was": was, "is": now})

    def _content(
        self, at: int, place: int, item: Taken, old: Taken, nearest: Counterpart
    ) -> Iterator[Reason]:
        """What differs in what is selected."""
        if item.content is None or item.content == old.content:
            return
        step = self.steps[at]
        name = _name(step, place)
        patterns, before = _patterns(item), _patterns(old)
        if patterns != before and step.kind in ("COPY", "ADD"):
            yield Reason(
                "sources",
                f"{step.kind}: sources were {' '.join(before)}, are {' '.join(patterns)}",
                {"was": before, "is": patterns},
            )
        if item.select and old.select and item.select[1] != old.select[1]:
            was, now = ", ".join(old.select[1]) or "none", ", ".join(item.select[1]) or "none"
            yield Reason("sources", f"{step.kind}: --exclude was {was}, is {now}", {"field": "--exclude"})
        source = self.steps[item.of]
        context = shown_of(source.parts.get("(from)", "")) if source.kind == "context" else None
        told = []
        was_rows: Listing | None = self.history.past.rows(nearest.line, old.rows)
        now_rows = self.history.now_rows(item)
        if was_rows is not None and now_rows is not None and was_rows.is_whole and now_rows.is_whole:
            hidden = self.sources.hidden(context) if context is not None else nothing_hidden
            was_hidden = self.sources.was_hidden(nearest, context) if context is not None else nothing_hidden
            told = tell(name, was_rows, now_rows, hidden=hidden, was_hidden=was_hidden)
        if not told:
            unknown = was_rows is None or now_rows is None
            why = "which files is not known" if unknown else "too many files to tell"
            told = [Reason("content", f"{name}: the content changed ({why})")]
        yield from told

    def _beneath(self, at: int, old: int, nearest: Counterpart, place: int) -> Iterator[Reason]:
        """What is different below, where that is in the cache: the first step downwards that is another."""
        for _ in range(len(self.steps)):
            step, then = self.steps[at], nearest.sheet.steps[old]
            if step.key is not None and step.key == then.key:
                return
            found = Counterpart(nearest.line, nearest.sheet, old)
            own = list(differences(step.kind, then.parts, step.parts)) if step.kind == then.kind else []
            if step.kind == then.kind and len(step.inputs) == len(then.inputs):
                for number, (item, was) in enumerate(zip(step.inputs, then.inputs, strict=True)):
                    if item.select is not None and was.select is not None:
                        own += self._content(at, number, item, was, found)
            if own or step.kind != then.kind or not step.inputs or not then.inputs:
                yield from self._told_beneath(at, place, own)
                return
            at, old = step.inputs[0].of, then.inputs[0].of

    def _told_beneath(self, at: int, place: int, own: list[Reason]) -> Iterator[Reason]:
        number = self.numbers[at]
        name = f"step {number}" if number else "what a mount shows" if place else "what it"
        if not own:
            text = f"stands on {name}, where another step was" if number else f"{name} stands on is another"
            yield Reason("base", text, {"step": number})
            return
        for reason in own[:MOST_BENEATH]:
            if not number:
                yield reason
            elif reason.kind == "base":  # a base image is told by itself
                yield Reason(reason.kind, reason.text, {**reason.data, "step": number})
            else:
                yield Reason(
                    reason.kind, f"stands on step {number}: {reason.text}", {**reason.data, "step": number}
                )


def _patterns(item: Taken) -> list[str]:
    return [pattern.lstrip("/") or "." for pattern in item.select[0]] if item.select else []


def _places(step: Step) -> str:
    count = len(step.inputs) - 1
    return f"{count} place{'s' * (count != 1)}" if count else "nowhere"


def _name(step: Step, place: int) -> str:
    """What is taken by which step: `COPY src`, `RUN --mount /src`."""
    if step.kind == "RUN":
        for mount in step.parts.get("mounts", ()):
            if mount.get("input") == place:
                return f"RUN --mount {shown_of(mount.get('target'))}"
    return f"{step.kind} {' '.join(_patterns(step.inputs[place]))}"


def _longest(findings: tuple[Finding, ...]) -> tuple[int, ...]:
    """The chain of steps that takes longest, if all that can be done at the same time is."""
    ends: list[float] = []
    before: list[int] = []
    for found in findings:
        below = max(found.inputs, key=lambda at: ends[at], default=-1)
        own = found.seconds or 0.0 if found.state in RUNS else 0.0
        ends.append((ends[below] if below >= 0 else 0.0) + own)
        before.append(below)
    at = max(range(len(ends)), key=lambda number: ends[number], default=-1)
    path = []
    while at >= 0 and ends[at] > 0:
        path.append(at)
        at = before[at]
    return tuple(number for number in reversed(path) if findings[number].state in RUNS)
