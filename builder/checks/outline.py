"""What a target can be given: its build arguments, secrets and ssh agents, with their descriptions. Pure.

An ARG counts where a stage that the target needs declares it, or where a FROM line of one uses it, be it
through another ARG's default. A description is the comment above that begins with the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from builder.checks.froms import bases_of
from builder.compiler import metadata, paths, scope
from builder.compiler.compile import Visit
from builder.compiler.flags import texts
from builder.compiler.program import CompileOptions
from builder.compiler.sources import Base, FromStage
from builder.compiler.stages import Parts, Stage, numbers_by_name, read_stages
from builder.dockerfile import mounts, words
from builder.dockerfile.ast import Arg, Dockerfile, Run
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
    for number in _needed(target, bases, by_stage):
        gathered.add(parts.stages[number], by_stage.get(number, []), dockerfile.escape)
    stage = parts.stages[target]
    return Outline(
        stage.name,
        describe(stage.start.comments, stage.name),
        tuple(sorted(gathered.arguments.values(), key=lambda argument: argument.span.line)),
        tuple(sorted(gathered.secrets.values(), key=lambda grant: grant.span.line)),
        tuple(sorted(gathered.agents.values(), key=lambda grant: grant.span.line)),
    )


def _needed(target: int, bases: tuple[Base, ...], visits: Mapping[int, list[Visit]]) -> Iterator[int]:
    """The target, what it stands on, what it takes from, and so on; each once."""
    known: set[int] = set()
    pending = [target]
    while pending:
        number = pending.pop()
        if number in known:
            continue
        known.add(number)
        yield number
        taken = [source for visit in visits.get(number, ()) for source in visit.step.sources]
        base = bases[number].source
        pending += [source.number for source in [*taken, base] if isinstance(source, FromStage)]


class _Globals:
    """The ARGs above the first FROM, and which of them others are made from."""

    def __init__(self, dockerfile: Dockerfile, parts: Parts, options: CompileOptions) -> None:
        last = parts.stages[-1].name
        self.values = scope.global_scope(options, last, parts.globals, dockerfile.source, dockerfile.escape)
        self.arguments: dict[str, Argument] = {}
        self._made_from: dict[str, set[str]] = {}
        self._followed: set[str] = set()
        for step in parts.globals:
            described = _descriptions(step.comments)
            for pair in step.pairs:
                # What only the builder gives a name is no value of the ARG.
                is_own = pair.value is not None or pair.name in options.build_args
                value = self.values[pair.name] if is_own else ""
                text = described.get(pair.name, "")
                self.arguments[pair.name] = Argument(pair.name, value, text, step.span)
                if pair.value is not None and pair.name not in options.build_args:
                    lookups = Lookups()
                    words.expand(pair.value, self.values, dockerfile.escape, lookups=lookups)
                    self._made_from.setdefault(pair.name, set()).update(lookups.found)
        self._order = {name: number for number, name in enumerate(self.arguments)}

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

    def add(self, stage: Stage, visits: list[Visit], escape: str) -> None:
        """Add what a stage takes."""
        own: dict[str, Argument] = {}
        lookups = Lookups()
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
        used = self.globals.behind(used)
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
