"""Rules about what instructions do: each is looked at with the state that it met when it was lowered. Pure.

A trigger of a base is looked at where it runs, and told of the FROM that runs it.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

import msgspec

from builder.checks import rules
from builder.checks.hints import Hints
from builder.checks.rules import Rule
from builder.checks.settings import Settings
from builder.checks.writing import Found
from builder.compiler import copies, ports, scope
from builder.compiler.compile import Visit
from builder.compiler.flags import texts
from builder.compiler.remotes import is_remote
from builder.compiler.secretnames import sounds_secret
from builder.dockerfile import mounts, words
from builder.dockerfile.ast import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from builder.dockerfile.heredocs import split_sources
from builder.dockerfile.ignore import Ignore
from builder.dockerfile.mounts import MountError
from builder.dockerfile.words import Lookups, WordError
from builder.text import Span

WHOLE_CONTEXT = frozenset({"*", "**", "**/*"})
DRIVE = re.compile(r"[A-Za-z]:")
Message = tuple[str, Span]
Reader = Callable[..., str]


class Memory(msgspec.Struct):
    """What earlier instructions of a stage leave behind.

    declared: the names of ARGs; inherited: those of the stages below; has_workdir: a WORKDIR was one of them;
    last: the last one of each kind that counts only once.
    """

    declared: set[str] = msgspec.field(default_factory=set)
    inherited: Container[str] = ()
    has_workdir: bool = False
    last: dict[str, Span] = msgspec.field(default_factory=dict)


class Seen(msgspec.Struct, frozen=True):
    """An instruction as it was come to, what was before it, and the context's ignore file."""

    visit: Visit
    memory: Memory
    ignore: Ignore | None
    hints: Hints

    @property
    def span(self) -> Span:
        """Its place."""
        return self.visit.step.instruction.span

    @property
    def keyword(self) -> str:
        """Its keyword as it is written."""
        return self.visit.step.instruction.original.split(maxsplit=1)[0]

    def expand(self, word: str) -> str:
        """A word of it as it is meant. Raises WordError."""
        return words.expand(word, self.visit.state.variables, self.visit.lowering.escape)


class Asked:
    """An expansion: what it came to, or why it failed, and the variables that it missed."""

    def __init__(self, read: Reader, text: str, variables: Mapping[str, str], escape: str) -> None:
        lookups = Lookups()
        self.value = ""
        self.error: WordError | None = None
        try:
            self.value = read(text, variables, escape, lookups=lookups)
        except WordError as error:
            self.error = error
        self.missing = frozenset(lookups.missing)


def undefined_var(seen: Seen) -> Iterator[Message]:
    """Variables that are neither set nor declared, word by word. Raises WordError for one that is wrong."""
    state, step = seen.visit.state, seen.visit.step.instruction
    if isinstance(step, Arg):
        yield from _undefined_in_arg(seen, step)
        return
    for read, text, escape in _expanded(seen):
        asked = Asked(read, text, state.variables, escape)
        yield from _undefined(seen, asked, state.variables)


def _undefined_in_arg(seen: Seen, step: Arg) -> Iterator[Message]:
    """The defaults that are used; each sees the names to its left."""
    for name, asked, known in _arguments(seen, step):
        if asked is not None:
            yield from _undefined(seen, asked, known)
        seen.memory.declared.add(name)


def _arguments(seen: Seen, step: Arg) -> Iterator[tuple[str, Asked | None, Mapping[str, str]]]:
    """The names of an ARG, what is asked for each default that is used, and what is known there.

    Nothing behind a default that is wrong, as nothing behind it is come to.
    """
    known = seen.visit.state.variables
    lowering = seen.visit.lowering
    for pair in step.pairs:
        value, asked = lowering.options.build_args.get(pair.name), None
        if value is None and pair.value is not None:
            asked = Asked(words.expand, pair.value, known, lowering.escape)
            value = asked.value
        yield pair.name, asked, known
        if asked is not None and asked.error is not None:
            return
        if value is None:
            value = lowering.globals.get(pair.name)
        if value is not None:
            known = known.assigned(pair.name, value)


def _undefined(seen: Seen, asked: Asked, variables: Mapping[str, str]) -> Iterator[Message]:
    """What an expansion missed and no ARG declares."""
    for name in sorted(asked.missing):
        if name not in seen.memory.declared and name not in seen.memory.inherited:
            yield f"variable {name} is not set here{seen.hints.near(name, variables)}", seen.span
    if asked.error is not None:
        raise asked.error


def _expanded(seen: Seen) -> Iterator[tuple[Reader, str, str]]:
    """The texts of an instruction in which variables count: how each is read, and with which escape."""
    step, escape = seen.visit.step.instruction, seen.visit.lowering.escape
    found: Sequence[str | None] = ()
    match step:
        case Env() | Label():
            found = [text for pair in step.pairs for text in (pair.name, pair.value)]
        case Copy() | Add():
            flags = [step.flag(name) for name in ("chown", "chmod", "checksum")]
            found = [*flags, *split_sources(step)[0], step.dest]
        case Run():
            for text in texts(step, "mount"):
                yield from _mount_values(text, seen.visit.state.variables, escape)
        case User():
            found = (step.user,)
        case Volume():
            found = step.paths
        case Workdir():
            found = (step.path,)
        case Stopsignal():
            found = (step.signal,)
    yield from ((words.expand, text, escape) for text in found if text)
    if isinstance(step, Copy | Add):
        yield from ((words.expand_text, file.text, "\\") for file in split_sources(step)[1] if file.expand)


def _mount_values(text: str, variables: Mapping[str, str], escape: str) -> Iterator[tuple[Reader, str, str]]:
    """The values of a mount; raises MountError behind them for one that is wrong."""
    values: list[str] = []

    def note(value: str) -> str:
        values.append(value)
        return words.expand(value, variables, escape)

    wrong: MountError | None = None
    try:
        mounts.parse_mount(text, note)
    except MountError as error:
        wrong = error
    except WordError:
        pass  # it comes up again where the value is looked at
    yield from ((words.expand, value, escape) for value in values)
    if wrong is not None:
        raise wrong


def legacy_key_value_format(seen: Seen) -> Iterator[Message]:
    """ENV and LABEL with blanks between name and value."""
    step = seen.visit.step.instruction
    if isinstance(step, Env | Label) and step.legacy:
        yield f"{seen.keyword} should have the form NAME=VALUE; its value stands behind a blank", seen.span


def secrets_used_in_arg(seen: Seen) -> Iterator[Message]:
    """Names of ARG that sound like a secret's; whether their defaults can be expanded is not known yet."""
    step = seen.visit.step.instruction
    if isinstance(step, Arg):
        yield from _secrets(seen, (name for name, _, _ in _arguments(seen, step)))


def secrets_used_in_env(seen: Seen) -> Iterator[Message]:
    """Names of ENV that sound like a secret's."""
    step = seen.visit.step.instruction
    if isinstance(step, Env):
        yield from _secrets(seen, (seen.expand(pair.name) for pair in step.pairs))


def _secrets(seen: Seen, names: Iterable[str]) -> Iterator[Message]:
    keyword = seen.visit.step.instruction.keyword
    for name in names:
        if sounds_secret(name):
            yield f"{keyword} {name} looks like a secret; use RUN --mount=type=secret", seen.span


def workdir_relative_path(seen: Seen) -> Iterator[Message]:
    """A relative WORKDIR without one above it."""
    step = seen.visit.step.instruction
    if isinstance(step, Workdir) and not seen.memory.has_workdir:
        path = seen.expand(step.path)
        rest = path
        if seen.visit.state.platform.os == "windows":
            rest = DRIVE.sub("", path, count=1).replace("\\", "/")
        if not rest.startswith("/"):
            yield f"where WORKDIR {path} leads depends on the base image", seen.span


def json_args_recommended(seen: Seen) -> Iterator[Message]:
    """CMD and ENTRYPOINT in shell form, unless somebody chose the shell."""
    step = seen.visit.step.instruction
    if isinstance(step, Cmd | Entrypoint) and step.command.shell and not seen.visit.state.config.shell:
        yield f"{seen.keyword} should be a JSON array, so that signals reach the program", seen.span


def multiple_instructions_disallowed(seen: Seen) -> Iterator[Message]:
    """What counts only once; told of the earlier one, which is in vain."""
    step = seen.visit.step.instruction
    before = seen.memory.last.get(step.keyword)
    if before is not None:
        yield f"only the last {seen.keyword} of a stage counts, and another one follows", before


def expose_proto_casing(seen: Seen) -> Iterator[Message]:
    """Protocols in EXPOSE."""
    for text, (_, _, _, protocol) in _ports(seen):
        if protocol != protocol.lower():
            yield f"the protocol in EXPOSE {text} should be in lower case", seen.span


def expose_invalid_format(seen: Seen) -> Iterator[Message]:
    """Hosts' addresses and ports in EXPOSE."""
    for text, (address, host, _, _) in _ports(seen):
        if address or host:
            yield f"EXPOSE {text} should name a port of the container, not one of a host", seen.span


def _ports(seen: Seen) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """The ports of an EXPOSE, and their parts; up to one that is wrong, whose numbers come last."""
    step, state = seen.visit.step.instruction, seen.visit.state
    if not isinstance(step, Expose):
        return
    escape = seen.visit.lowering.escape
    expanded = [words.expand_words(word, state.variables, escape) for word in sorted(step.ports)]
    for text in itertools.chain.from_iterable(expanded):
        parts = ports.split_port(text)
        if not parts[2] or parts[3].lower() not in ("", *ports.PROTOCOLS):
            return
        yield text, parts
        try:
            ports.read_port(text)
        except ValueError:
            return


def copy_ignored_file(seen: Seen) -> Iterator[Message]:
    """Sources that the ignore file leaves out; nothing is said where it takes something back in."""
    step, ignore = seen.visit.step.instruction, seen.ignore
    is_copy = isinstance(step, Copy | Add) and not step.flag("from")
    if not is_copy or not ignore or any(pattern.keeps for pattern in ignore.patterns):
        return
    assert isinstance(step, Copy | Add)
    if not copies.is_chmod(seen.expand(step.flag("chmod") or "")):
        return  # the sources are not come to
    for source in map(seen.expand, split_sources(step)[0]):
        if not is_remote(source) and _is_ignored(posixpath.normpath(source), ignore):
            yield f"{step.keyword} takes {source}, which the ignore file leaves out", seen.span


def _is_ignored(path: str, ignore: Ignore) -> bool:
    """Whether patterns that only take out take out the path as it is written, or a folder above it."""
    if path in (".", "/", "//"):
        return any(pattern.text in WHOLE_CONTEXT for pattern in ignore.patterns)
    # As in the reference builder, a leading slash makes a folder without a name of what is above the path.
    return ignore.excludes(path) or (path.startswith("/") and ignore.excludes(""))


STEP_RULES: tuple[tuple[Rule, Callable[[Seen], Iterator[Message]]], ...] = (
    (rules.SECRETS_USED_IN_ARG_OR_ENV, secrets_used_in_arg),
    (rules.UNDEFINED_VAR, undefined_var),
    (rules.LEGACY_KEY_VALUE_FORMAT, legacy_key_value_format),
    (rules.SECRETS_USED_IN_ARG_OR_ENV, secrets_used_in_env),
    (rules.WORKDIR_RELATIVE_PATH, workdir_relative_path),
    (rules.JSON_ARGS_RECOMMENDED, json_args_recommended),
    (rules.MULTIPLE_INSTRUCTIONS_DISALLOWED, multiple_instructions_disallowed),
    (rules.EXPOSE_PROTO_CASING, expose_proto_casing),
    (rules.EXPOSE_INVALID_FORMAT, expose_invalid_format),
    (rules.COPY_IGNORED_FILE, copy_ignored_file),
)


def find_in_steps(
    visits: Sequence[Visit], parents: Mapping[int, int], ignore: Ignore | None, settings: Settings
) -> Iterator[Found]:
    """What the step rules find. `parents`: the stages that stand on another one, and on which."""
    hints = Hints()
    for visit, memory in _remembered(visits, parents):
        seen = Seen(visit, memory, ignore, hints)
        own = settings.below(() if visit.step.onbuild else visit.step.instruction.comments)
        try:
            for rule, look in STEP_RULES:
                # A rule that does not apply is asked too: what cannot be expanded ends the looking.
                for message, span in look(seen):
                    if own.allows(rule):
                        yield rule, message, span
        except (WordError, MountError):
            return


def _remembered(visits: Sequence[Visit], parents: Mapping[int, int]) -> Iterator[tuple[Visit, Memory]]:
    """Every instruction with what is remembered before it; stages come in the order of their numbers."""
    has_workdir: list[bool] = []
    memory = Memory()
    for visit in visits:
        step = visit.step.instruction
        if visit.stage >= len(has_workdir):
            for number in range(len(has_workdir), visit.stage + 1):
                has_workdir.append(number in parents and has_workdir[parents[number]])
            memory = Memory(set(scope.SILENT), visit.state.args, has_workdir[visit.stage])
        yield visit, memory
        if isinstance(step, Workdir):
            memory.has_workdir = has_workdir[visit.stage] = True
        if isinstance(step, Cmd | Entrypoint | Healthcheck):
            memory.last[step.keyword] = step.span
