"""What a target can be given: its build arguments, secrets and ssh agents, with their descriptions. Pure.

An ARG counts where a stage that the target needs declares it, or where a FROM line of one uses it, be it
through another ARG's default. A description is the comment above that begins with the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from builder.checks.froms import bases_of, needed
from builder.compiler import metadata, paths, scope
from builder.compiler.compile import Visit
from builder.compiler.flags import texts
from builder.compiler.program import CompileOptions
from builder.compiler.sources import Base, FromStage
from builder.compiler.stages import Parts, Stage, numbers_by_name, read_stages
from builder.dockerfile import mounts, words
from builder.dockerfile.ast import Arg, Dockerfile, Pair, Run
from builder.dockerfile.words import Lookups
from builder.text import Span


class Argument(msgspec.Struct, frozen=True):
    """A build argument: its value (a given one, else the default), and where it is declared."""

    name: str
    value: str
    description: str
    span: Span


class Grant(msgspec.Struct, frozen=True):
    """A secret or an ssh agent that a RUN may use, and the first one that does."""

    name: str
    required: bool
    span: Span


class Outline(msgspec.Struct, frozen=True):
    """What a target takes, by line. `name` is "" for a stage without one."""

    name: str
    description: str
    arguments: tuple[Argument, ...]
    secrets: tuple[Grant, ...]
    agents: tuple[Grant, ...]


def describe(comments: Iterable[str], name: str) -> str:
    """What the comments above something say of it: the rest of the line that begins with its name."""
    return _descriptions(comments).get(name, "") if name else ""


def _descriptions(comments: Iterable[str]) -> dict[str, str]:
    """What comments say of each name that one begins with; the first one counts."""
    found: dict[str, str] = {}
    for comment in comments:
        name, blank, rest = comment.partition(" ")
        if blank:
            found.setdefault(name, rest)
    return found


def read_outline(dockerfile: Dockerfile, options: CompileOptions, visits: Sequence[Visit]) -> Outline:
    """The outline of the target. `visits` are those of a compile that succeeded."""
    parts = read_stages(dockerfile)
    target = numbers_by_name(parts.stages).get(options.target.lower(), len(parts.stages) - 1)
    bases = bases_of(dockerfile, parts, options)
    by_stage: dict[int, list[Visit]] = {}
    for visit in visits:
        by_stage.setdefault(visit.stage, []).append(visit)
    gathered = _Gathered(_Globals(dockerfile, parts, options))
    walked: set[int] = set()
    for number in needed(target, bases, by_stage):
        chain = [parts.stages[below] for below in _chain(number, bases, walked)]
        gathered.add(chain, by_stage.get(number, []), dockerfile.escape)
    stage = parts.stages[target]
    return Outline(
        stage.name,
        describe(stage.start.comments, stage.name),
        tuple(sorted(gathered.arguments.values(), key=lambda argument: argument.span.line)),
        tuple(sorted(gathered.secrets.values(), key=lambda grant: grant.span.line)),
        tuple(sorted(gathered.agents.values(), key=lambda grant: grant.span.line)),
    )


def _chain(number: int, bases: tuple[Base, ...], walked: set[int]) -> Iterator[int]:
    """A stage, the one that it stands on, and so on, but for those that were told before."""
    while number not in walked:
        walked.add(number)
        yield number
        if not isinstance(source := bases[number].source, FromStage):
            return
        number = source.number


class _Globals:
    """The ARGs above the first FROM, and which of them others are made from."""

    def __init__(self, dockerfile: Dockerfile, parts: Parts, options: CompileOptions) -> None:
        last = parts.stages[-1].name
        self.values = scope.global_scope(options, last, (), dockerfile.source, dockerfile.escape)
        self.arguments: dict[str, Argument] = {}
        self._made_from: dict[str, set[str]] = {}
        self._followed: set[str] = set()
        for step in parts.globals:
            described = _descriptions(step.comments)
            for pair in step.pairs:
                value, made_from = self._read(pair, options, dockerfile.escape)
                if value is not None:
                    self.values[pair.name] = value
                if pair.name in made_from:
                    made_from |= self._made_from.get(pair.name, set())
                self._made_from[pair.name] = made_from
                text = described.get(pair.name, "")
                self.arguments[pair.name] = Argument(pair.name, value or "", text, step.span)
        self._order = {name: number for number, name in enumerate(self.arguments)}

    def _read(self, pair: Pair, options: CompileOptions, escape: str) -> tuple[str | None, set[str]]:
        """The value of an ARG, where it has one of its own, and the names that its default uses."""
        if pair.name in options.build_args:
            return options.build_args[pair.name], set()
        if pair.value is None:
            return None, set()
        lookups = Lookups()
        return words.expand(pair.value, self.values, escape, lookups=lookups), lookups.found

    def behind(self, names: Iterable[str]) -> set[str]:
        """The names, and those that their defaults use but those that were told before."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            found.add(name)
            if name not in self._followed:
                self._followed.add(name)
                pending += self._made_from.get(name, ())
        return found

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are declared here, in the order of the file."""
        return sorted((name for name in names if name in self.arguments), key=self._order.__getitem__)


class _Gathered(msgspec.Struct):
    """What the stages take, the first of each name."""

    globals: _Globals
    arguments: dict[str, Argument] = msgspec.field(default_factory=dict)
    secrets: dict[str, Grant] = msgspec.field(default_factory=dict)
    agents: dict[str, Grant] = msgspec.field(default_factory=dict)

    def add(self, chain: Sequence[Stage], visits: list[Visit], escape: str) -> None:
        """Add what a stage takes; the FROM lines of those below it count for it before their own ARGs."""
        own: dict[str, Argument] = {}
        lookups = Lookups()
        for stage in chain:
            for text in (stage.start.image, stage.start.flag("platform") or ""):
                words.expand(text, self.globals.values, escape, lookups=lookups)
        used = set(lookups.found)
        for visit in visits:
            step = visit.step.instruction
            if isinstance(step, Arg):
                used.update(pair.name for pair in step.pairs)
                own.update(_declared(visit, step))
            elif isinstance(step, Run):
                self._add_grants(visit, step)
        used = self.globals.behind(used - own.keys()) | used
        for name in self.globals.in_order(used):
            self.arguments.setdefault(name, own.get(name, self.globals.arguments[name]))
        for name, argument in own.items():
            self.arguments.setdefault(name, argument)

    def _add_grants(self, visit: Visit, step: Run) -> None:
        for text in texts(step, "mount"):
            mount = mounts.parse_mount(
                text, lambda word: words.expand(word, visit.state.variables, visit.lowering.escape)
            )
            if mount.kind == "secret":
                name = mount.source or mount.id or paths.base_name(mount.target)
                self.secrets.setdefault(name, Grant(name, mount.required, step.span))
            elif mount.kind == "ssh":
                name = mount.id or "default"
                self.agents.setdefault(name, Grant(name, mount.required, step.span))


def _declared(visit: Visit, step: Arg) -> Iterator[tuple[str, Argument]]:
    """The ARGs of a line that do not merely take up a global one."""
    described = _descriptions(step.comments)
    for pair, value in metadata.arg_values(visit.lowering, visit.state, step):
        given = pair.name in visit.lowering.options.build_args
        if given or pair.value is not None or pair.name not in visit.lowering.globals:
            text = described.get(pair.name, "")
            yield pair.name, Argument(pair.name, value or "", text, step.span)
