"""Programs on disk: what a compile and its checks gave, read back exactly as it was.

    ROOT/cache/programs/ab/abcd…   under the digest of all that the compile was given, its bases' states too

A build of which only files have changed loads neither parser nor compiler nor checks. Whoever asks names what
was given (`memo.name_of`, the states of a `memo.Plan`): equal name, equal programs, as compiling is pure. The
Dockerfile's text is not kept, but given again; nothing is kept that may be secret, or is so large that
compiling is no longer what takes time. What cannot be read is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from builder.compiler.program import Program, Programs, Warning
from builder.compiler.remotes import redact
from builder.compiler.secretnames import sounds_secret
from builder.digest import Digest, of_value
from builder.graph.definition import About, Definition, Input, Vertex
from builder.graph.selection import Selection
from builder.oci.spec import History, ImageConfig
from builder.ops.exec import Exec
from builder.ops.files import Copy, MakeDir, Merge
from builder.ops.source import Git, Http, Image, Local, Scratch
from builder.text import Location, SourceText, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.prepare import Texts
    from builder.solver.cache import Cache

FORMAT = 1
MOST_STEPS = 500
MOST_ENVIRONMENT = 1 << 18  # characters of all steps' environments together
MOST_TEXT = 1 << 20  # characters

_Op = Exec | Copy | MakeDir | Merge | Image | Local | Http | Git | Scratch
_Place = tuple[int, Span, int]  # the number of its source; the span; `begins`


class _About(msgspec.Struct, array_like=True):
    label: str
    stage: str
    place: _Place | None
    no_cache: bool
    internal: bool
    shell: str


class _Vertex(msgspec.Struct, array_like=True):
    digest: str
    op: _Op
    op_digest: str | None
    inputs: tuple[tuple[str, list[Any] | None], ...]
    about: _About


class _Program(msgspec.Struct, array_like=True):
    """`vertices` are numbers of rows."""

    vertices: tuple[int, ...]
    latest: int | None
    target: str
    config: ImageConfig
    history: tuple[History, ...]
    warnings: tuple[Warning, ...]
    source_date_epoch: int | None
    epoch_fetched: bool
    base_layers: int
    base_entries: int
    addresses: tuple[tuple[Git | Http, _Place | None], ...]


class _Programs(msgspec.Struct, array_like=True):
    """sources: all but the Dockerfile, which is number 0; rows: the vertices of all, each once."""

    sources: tuple[SourceText, ...]
    rows: tuple[_Vertex, ...]
    each: tuple[_Program, ...]
    vertices: tuple[int, ...]
    latest: int | None
    warnings: tuple[Warning, ...]


def save(cache: Cache, name: Digest, texts: Texts, programs: Programs) -> None:
    """Remember programs, unless they are too large."""
    text = dump(programs, SourceText(texts.name, texts.dockerfile))
    if text is not None and len(text) <= MOST_TEXT:
        cache.remember("programs", name, text)


def load(cache: Cache, name: Digest, texts: Texts) -> Programs | None:
    """The programs under that name; None where there are none, or they are damaged."""
    text = cache.recall("programs", name)
    return None if text is None else parse(text, SourceText(texts.name, texts.dockerfile))


def name_of(given: Digest, states: Iterable[tuple[str, str, str]]) -> Digest:
    """What names the programs of all that a compile is `given`, and of the states of its bases."""
    return of_value(["programs", FORMAT, given, [list(state) for state in states]])


def may_be_kept(programs: Programs, args: Mapping[str, str], contexts: Mapping[str, str]) -> bool:
    """Whether programs hold nothing that sounds secret, and are not too large.

    args: build args by name; contexts: what named contexts were given as.
    """
    if any(sounds_secret(name) for name in args) or len(programs.definition.vertices) > MOST_STEPS:
        return False
    addresses = [*args.values(), *contexts.values()]
    room = MOST_ENVIRONMENT
    for vertex in programs.definition:
        op = vertex.op
        if isinstance(op, Exec):
            room -= sum(len(name) + len(value) for name, value in op.env)
            if room < 0 or any(value and sounds_secret(name) for name, value in op.env):
                return False
            addresses += [value for _, value in op.proxy]
        elif isinstance(op, Http | Git):
            addresses.append(op.url if isinstance(op, Http) else op.remote)
    return all(redact(address) == address for address in addresses)


def dump(programs: Programs, dockerfile: SourceText) -> str | None:
    """Programs as text; None for what no such text can hold: bytes that are no characters, huge numbers."""
    writer = _Writer(dockerfile)
    each = tuple(writer.program(program) for program in programs.each)
    numbers = writer.numbers(programs.definition)
    sources = tuple(writer.sources)[1:]
    whole = _Programs(
        sources, tuple(writer.rows), each, numbers, programs.definition.latest, programs.warnings
    )
    try:
        return msgspec.json.encode(whole).decode()
    except (UnicodeEncodeError, OverflowError):
        return None


def parse(text: str, dockerfile: SourceText) -> Programs | None:
    """The inverse of `dump`; None for a text that is none of its."""
    try:
        whole = msgspec.json.decode(text, type=_Programs)
        reader = _Reader(whole, dockerfile)
        each = tuple(reader.program(program) for program in whole.each)
        return Programs(each, reader.definition(whole.vertices, whole.latest), whole.warnings)
    except (ValueError, TypeError, IndexError):  # msgspec's errors are ValueErrors
        return None


class _Writer:
    """Vertices and sources get numbers, so that none is written twice."""

    def __init__(self, dockerfile: SourceText) -> None:
        self.sources: dict[SourceText, int] = {dockerfile: 0}
        self.rows: list[_Vertex] = []
        self._numbers: dict[int, int] = {}  # by identity: vertices that are equal may differ in what is told

    def program(self, program: Program) -> _Program:
        return _Program(
            self.numbers(program.definition),
            program.definition.latest,
            program.target,
            program.config,
            program.history,
            program.warnings,
            program.source_date_epoch,
            program.epoch_fetched,
            program.base_layers,
            program.base_entries,
            tuple((source, self._place(at)) for source, at in program.addresses.items()),
        )

    def numbers(self, definition: Definition) -> tuple[int, ...]:
        return tuple(self._number(vertex) for vertex in definition)

    def _number(self, vertex: Vertex) -> int:
        if id(vertex) not in self._numbers:
            self._numbers[id(vertex)] = len(self.rows)
            self.rows.append(self._row(vertex))
        return self._numbers[id(vertex)]

    def _row(self, vertex: Vertex) -> _Vertex:
        about = vertex.about
        told = _About(
            about.label,
            about.stage,
            self._place(about.location),
            about.no_cache,
            about.internal,
            about.shell,
        )
        inputs = tuple((item.of, item.select.plain() if item.select else None) for item in vertex.inputs)
        op: Any = vertex.op
        return _Vertex(vertex.digest, op, vertex.op_digest, inputs, told)

    def _place(self, at: Location | None) -> _Place | None:
        if at is None:
            return None
        return self.sources.setdefault(at.source, len(self.sources)), at.span, at.begins


class _Reader:
    """The other way round."""

    def __init__(self, whole: _Programs, dockerfile: SourceText) -> None:
        self._sources = (dockerfile, *whole.sources)
        self._vertices = [self._vertex(row) for row in whole.rows]

    def program(self, row: _Program) -> Program:
        return Program(
            definition=self.definition(row.vertices, row.latest),
            target=Digest(row.target),
            config=row.config,
            history=row.history,
            warnings=row.warnings,
            source_date_epoch=row.source_date_epoch,
            epoch_fetched=row.epoch_fetched,
            base_layers=row.base_layers,
            base_entries=row.base_entries,
            addresses={source: self._location(place) for source, place in row.addresses},
        )

    def definition(self, numbers: Sequence[int], latest: int | None) -> Definition:
        vertices = (self._vertices[number] for number in numbers)
        return Definition({vertex.digest: vertex for vertex in vertices}, latest)

    def _vertex(self, row: _Vertex) -> Vertex:
        about = row.about
        told = About(
            about.label,
            about.stage,
            self._location(about.place),
            about.no_cache,
            about.internal,
            about.shell,
        )
        inputs = tuple(
            Input(Digest(of), Selection.from_plain(plain) if plain is not None else None)
            for of, plain in row.inputs
        )
        op_digest = Digest(row.op_digest) if row.op_digest is not None else None
        return Vertex(Digest(row.digest), row.op, op_digest, inputs, told)

    def _location(self, place: _Place | None) -> Location | None:
        return None if place is None else Location(self._sources[place[0]], place[1], place[2])
