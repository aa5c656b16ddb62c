"""A bench from its request to its result: what is built, in which order, and what is made of it.

The user's folder is copied, the user's store gives base images and nothing else; all that is built lies in a
folder of the store's `ingest/`, which goes with the process, or where somebody wants to keep it. First the
context as it is, into an empty store; then again; then with one file changed, for each part of it: changes
are put back, so every case but the first differs from the first in that one file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as replace_options

from builder import loops, prepare
from builder.attempt import Attempt
from builder.bench.advice import WORTH_SECONDS, Advice, Change, advise, amount, other_steps
from builder.bench.copying import changed, copy_context, is_text
from builder.bench.measure import Builder, seconds_of
from builder.bench.model import Model, Step, model_of
from builder.bench.order import Subject
from builder.bench.parts import Part, find_parts
from builder.bench.proof import compare
from builder.bench.values import (
    ARGUMENT,
    COLD,
    KINDS,
    PART,
    PROPOSED,
    UNCHANGED,
    Case,
    Result,
    StepRun,
    Timing,
)
from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import Program
from builder.dockerfile import ast
from builder.dockerfile.ignore import parse as parse_ignore
from builder.dockerfile.parser import read
from builder.errors import BuildError, UsageError
from builder.fs.remove import remove_tree
from builder.programs import compile_options, kept_analyses, open_images, times_of
from builder.sharing import make_store
from builder.snapshots.snapshot import LayerId
from builder.snapshots.tree import Tree
from builder.sources import context
from builder.store.ingest import IngestFolder
from builder.store.root import open_store
from builder.text import SourceText
from builder.ui.words import plural, seconds

if TYPE_CHECKING:
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import Entry
    from builder.store.root import Store

VOLATILE = re.compile(r"SHA|COMMIT|REVISION|BUILD|DATE|TIME|VERSION|TAG\b|REF\b|NUMBER", re.IGNORECASE)
FIXED = frozenset(("SOURCE_DATE_EPOCH", "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"))
RARELY_NEEDED = re.compile(  # by an image
    r"\.git(?:hub|lab-ci\.yml|ignore|attributes)?/?|\.(?:idea|vscode|venv|tox|mypy_cache|pytest_cache|cache)/|"
    r"node_modules/|__pycache__/|venv/|(?:.*\.)?Dockerfile.*|\.dockerignore|(?:README|CHANGELOG|LICENSE).*|.*\.log",
    re.IGNORECASE,
)
PROPOSED_ORDER = "proposed order"
SHOWN_TEXT = 1 << 20  # bytes of a manifest that are looked at


@dataclass(frozen=True, slots=True)
class Options:
    """rounds: how often all is measured; parts: how many parts are measured, the rest is worked out; keep: a
    folder in which all that is built stays, "" for none."""

    rounds: int = 1
    parts: int = 20
    keep: str = ""


@dataclass
class Bench:
    """One bench. `tell` is told what is being done; `timings` fill as it goes, by the cases' names."""

    request: BuildRequest
    flags: Sequence[str]
    options: Options
    tell: Callable[[str], None]
    timings: dict[str, list[Timing]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    advice: Advice | None = None

    def prepare(self) -> None:
        """Read, compile, and look at the context. Raises BuildError."""
        if len(self.request.platforms) > 1:
            raise UsageError("a bench is of one platform", hint="give --platform once")
        if not prepare.has_folder(self.request):
            raise UsageError(
                "a bench needs a context that is a folder", hint="check it out, and give its path"
            )
        self.store: Store = open_store(self.request.root)
        self.texts: Texts = prepare.read_texts(self.request)
        assert self.texts.context is not None
        self.folder = self.texts.context
        self.attempt = Attempt(
            self.texts,
            compile_options(self.request),
            kept_analyses(self.store),
            time_of=times_of(self.request, self.store),
        )
        program = loops.run(self._compile())
        name, text = self.texts.ignore or (".dockerignore", "")
        self.entries: list[Entry] = context.read(self.folder, parse_ignore(text, name))
        self.tree = Tree().plus(LayerId("context"), self.entries)
        visits = tuple(self.attempt.visits)
        self.subject = Subject(self.attempt.reading.dockerfile(), visits, program, self.tree, self.read_text)
        self.model = model_of(program, self.tree, {})
        self.parts = find_parts(self.tree, self.model, lambda path: is_text(os.path.join(self.folder, path)))

    async def _compile(self) -> Program:
        images = open_images(self.request, self.store)
        try:
            return await self.attempt.compile(images)
        finally:
            await images.close()

    def read_text(self, path: str) -> str:
        """A file of the context as text; "" for what is none, or too much."""
        try:
            with open(os.path.join(self.folder, path), encoding="utf-8") as file:
                text = file.read(SHOWN_TEXT + 1)
        except (OSError, UnicodeDecodeError):
            return ""
        return text if len(text) <= SHOWN_TEXT else ""

    # ── measured ─────────────────────────────────────────────────────────────────────────────────────────

    def measure(self) -> None:
        """Build all cases, as often as there are rounds. Raises BuildError where the build fails as it is."""
        with self._place() as place:
            copy = os.path.join(place, "context")
            self.tell(f"copying {plural(len(self.entries), 'path')} of the context")
            dockerfile = self._copy(copy, place)
            builder = Builder(tuple(self.flags))
            for number in range(1, self.options.rounds + 1):
                store = os.path.join(place, f"store-{number}")
                make_store(store, self.store, self.attempt.known.items())
                self._round(builder, store, copy, dockerfile, number)
                if number < self.options.rounds:
                    with suppress(OSError):
                        remove_tree(store)
            self._prove(builder, store, copy, place)

    @contextmanager
    def _place(self) -> Iterator[str]:
        keep = self.options.keep
        if not keep:
            with IngestFolder(self.store.folder) as work:
                yield work.path
            return
        try:
            os.makedirs(keep, 0o700, exist_ok=True)
            if os.listdir(keep):
                raise UsageError(f"--keep {keep}: the folder is not empty")
        except OSError as error:
            raise BuildError(f"--keep {keep}: {error.strerror}", code="bench-keep") from error
        yield os.path.abspath(keep)

    def _copy(self, copy: str, place: str) -> str:
        """Copy the context; the path of the Dockerfile to build from then."""
        if self.request.dockerfile == "-":
            copy_context(self.folder, copy, self.entries, [".dockerignore"])
            path = os.path.join(place, "Dockerfile")
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(self.texts.dockerfile)
            return path
        path = os.path.abspath(self._dockerfile())
        top = os.path.join(os.path.abspath(self.folder), "")
        inside = path.removeprefix(top) if path.startswith(top) else ""
        further = (inside, f"{inside}.dockerignore", inside + prepare.LOCK_SUFFIX) if inside else ()
        names = [".dockerignore", *further]
        copy_context(self.folder, copy, self.entries, names)
        return os.path.join(copy, inside) if inside else path

    def _dockerfile(self) -> str:
        return prepare.read_dockerfile(self.request)[0]

    def _round(self, builder: Builder, store: str, copy: str, dockerfile: str, number: int) -> None:
        cold = self._case("cold", builder, store, copy, dockerfile)
        if cold.error:
            raise BuildError(
                f"the build fails, so there is nothing to measure: {cold.error.removeprefix('error: ')}",
                code="bench-build",
                hint="--dry-run builds nothing, and tells what changes would run again",
            )
        self._case("unchanged", builder, store, copy, dockerfile)
        for part in self._measured(cold):
            file = os.path.join(copy, part.file)
            with changed(file, number):
                self._case(part.name, builder, store, copy, dockerfile)

    def _case(self, name: str, builder: Builder, store: str, copy: str, dockerfile: str) -> Timing:
        timing = builder.build(store, copy, dockerfile)
        self.timings.setdefault(name, []).append(timing)
        told = "failed" if timing.error else f"{len(timing.ran)} of {plural(timing.steps, 'step')} run"
        self.tell(f"{name}: {seconds(timing.seconds)}, {told}")
        return timing

    def _measured(self, cold: Timing) -> list[Part]:
        """The parts that are measured: those whose changes cost most, should there be too many."""
        parts = [part for part in self.parts if part.file]
        if len(parts) <= self.options.parts:
            return parts
        model = Model(self.model.steps, seconds_of([cold]))
        own = self._own_names()
        costly = sorted(parts, key=lambda part: (part.name in own, -model.takes(model.rerun(part.file))))
        costly = costly[: self.options.parts]
        return [part for part in parts if part in costly]

    def _prove(self, builder: Builder, store: str, copy: str, place: str) -> None:
        """Build the order that is proposed, and take it back if its image holds something else."""
        timings = [timing for name in self.timings for timing in self.timings[name]]
        model = replace(self.model, seconds=seconds_of(timings))
        advice = self.advice = self._advice(model, self._cases(model, predict=True))
        if not advice.text:
            return
        dockerfile = os.path.join(place, "Dockerfile.proposed")
        lock = [(dockerfile + prepare.LOCK_SUFFIX, self.texts.lock)] if self.texts.lock is not None else []
        for path, text in (
            (dockerfile, advice.text),
            (f"{dockerfile}.dockerignore", (self.texts.ignore or ("", ""))[1]),
            *lock,
        ):
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        timing = self._case(PROPOSED_ORDER, builder, store, copy, dockerfile)
        if reason := self._objection(store, timing):
            self.timings.pop(PROPOSED_ORDER)
            self.notes.append(f"another order was tried and is not proposed: {reason}")
            self.advice = replace(advice, suggestions=(), text="")
            return
        savings = [saving for each in advice.suggestions for saving in each.savings]
        ranked = sorted(savings, key=lambda saving: saving.after - saving.before)
        by_name = {part.name: part for part in self.parts}
        part = next((by_name[saving.part] for saving in ranked if saving.part in by_name), None)
        if part is None:
            return
        with changed(os.path.join(copy, part.file), self.options.rounds + 1):
            self._case(f"{PROPOSED_ORDER}: {part.name}", builder, store, copy, dockerfile)

    def _objection(self, store: str, timing: Timing) -> str:
        """Why the proposed order will not do, "" where its image holds the same."""
        if timing.error:
            return f"its build fails: {timing.error.removeprefix('error: ')}"
        found = compare(store, self.timings["cold"][-1].image, timing.image)
        if found.others:
            return f"its image differs in {_some(found.others)}"
        same = (
            f"built to compare: the image of the proposed order holds the same {plural(found.files, 'path')}"
        )
        if found.bytes:
            same += f", of which {_some(found.bytes)} differ in their bytes, as they may from run to run"
        self.notes.append(same)
        return ""

    # ── what is made of it ───────────────────────────────────────────────────────────────────────────────

    def result(self, *, whole: bool = True, known: dict[tuple[str, str], float] | None = None) -> Result:
        """What was found so far. known: times of steps from elsewhere, where nothing was measured."""
        timings = [timing for name in self.timings for timing in self.timings[name]]
        model = replace(self.model, seconds=known if known is not None else seconds_of(timings))
        cases = self._cases(model, predict=whole)
        advice = self.advice or (self._advice(model, cases) if whole else Advice((), "", ()))
        notes = [*self.notes, *(f"{part.name} has no file to change" for part in self.parts if not part.file)]
        for refused in advice.refused:
            line = refused.run.span.line
            notes.append(f"line {line} is left where it is: {refused.reason}")
        notes += _leave_out(cases)
        return Result(
            self.request.context,
            self.texts.name,
            self.options.rounds,
            tuple(cases),
            self._ignored(),
            advice.suggestions,
            advice.text,
            tuple(notes),
            whole,
        )

    def _cases(self, model: Model, *, predict: bool) -> list[Case]:
        files = {part.name: part.file for part in self.parts}
        cases = [
            Case(name, _kind(name), tuple(timings), files.get(name, ""))
            for name, timings in self.timings.items()
        ]
        if not predict:
            return cases
        floor = next((case.seconds for case in cases if case.kind == UNCHANGED), 0.0)
        if not cases:
            cases.append(_predicted("cold", COLD, model, model.cold(), 0.0))
            cases.append(_predicted("unchanged", UNCHANGED, model, [], 0.0))
        for part in self.parts:
            if part.file and part.name not in self.timings:
                again = model.rerun(part.file)
                cases.append(replace(_predicted(part.name, PART, model, again, floor), file=part.file))
        for name in self._arguments():
            again = other_steps(self.subject, model, self._again, name)
            cases.append(_predicted(f"ARG {name}", ARGUMENT, model, again, floor))
        return sorted(cases, key=lambda case: KINDS.index(case.kind))

    def _arguments(self) -> list[str]:
        """The build arguments that are given, or by their names are meant to be another each time."""
        steps = [visit.step.instruction for visit in self.subject.visits]
        names = [pair.name for step in steps if isinstance(step, ast.Arg) for pair in step.pairs]
        given = self.request.build_args
        return [n for n in dict.fromkeys(names) if (n in given or VOLATILE.search(n)) and n not in FIXED]

    def _advice(self, model: Model, cases: list[Case]) -> Advice:
        changes = [
            Change(case.name, "", case.seconds, argument=case.name.removeprefix("ARG "))
            for case in cases
            if case.kind == ARGUMENT
        ]
        for case in cases:
            if case.kind != PART or case.error or case.name in self._own_names():
                continue
            ran = {run.text for run in case.last.ran}
            again = [step.name for step in model.rerun(case.file)]
            spared = frozenset(name for name in again if name not in ran)
            changes.append(Change(case.name, case.file, case.seconds, spared))
        return advise(self.subject, self._again, model.seconds, changes)

    def _own_names(self) -> tuple[str, ...]:
        """Files that are changed in order to build otherwise, and not by the way."""
        name = os.path.basename(self.texts.name)
        return ".dockerignore", name, f"{name}.dockerignore"

    def _again(self, text: str, args: Mapping[str, str]) -> Subject:
        """Another text, compiled as the first was but for some build args. Raises BuildError."""
        dockerfile = read(SourceText(self.texts.name, text), kept_analyses(self.store)).dockerfile()
        visits: list[Visit] = []
        given = self.attempt.options
        options = replace_options(given, build_args={**given.build_args, **args})
        outcome = compile_dockerfile(dockerfile, options, self.attempt.known, visits)
        if not isinstance(outcome, Program):
            raise BuildError("another order asks for other images", code="bench-order")
        return Subject(dockerfile, tuple(visits), outcome, self.tree, self.read_text)

    def _ignored(self) -> tuple[str, ...]:
        """The top-level names that are left out, wholly."""
        there = {entry.path.partition("/")[0] for entry in self.entries}
        names = sorted(set(os.listdir(self.folder)) - there)
        return tuple(f"{n}/" if os.path.isdir(os.path.join(self.folder, n)) else n for n in names)


def _kind(name: str) -> str:
    """The kind of a case by its name: no part is called like one of the others, as those have no slash."""
    if name.partition(":")[0] == PROPOSED_ORDER:
        return PROPOSED
    return name if name in (COLD, UNCHANGED) else PART


def _leave_out(cases: Sequence[Case]) -> list[str]:
    """What to say of parts that images hardly need, and whose changes run something again."""
    costly = [
        case for case in cases if case.kind == PART and case.last.ran and RARELY_NEEDED.fullmatch(case.name)
    ]
    most = max((sum(run.seconds for run in case.last.ran) for case in costly), default=0.0)
    if most < WORTH_SECONDS:
        return []
    what = f"changes in {', '.join(case.name for case in costly)} run up to {amount(most)} again"
    return [f"{what}: list them in .dockerignore if no step needs them"]


def _some(paths: Sequence[str]) -> str:
    """A few paths, and how many more there are."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(f"/{path}" for path in paths[:3]) + more


def _predicted(name: str, kind: str, model: Model, again: list[Step], floor: float) -> Case:
    ran = tuple(StepRun(step.name, step.stage, step.line, model.length(step)) for step in again)
    timing = Timing(floor + model.takes(again), len(model.cold()), ran)
    return Case(name, kind, (timing,), predicted=True)
