"""What a compile gave, remembered: enough of a program to find out that nothing has to be done.

    ROOT/cache/programs/ab/abcd…   a Plan, under the digest of all that the compile was given (beside it the
                                   programs themselves, see `compiled`)
    ROOT/cache/images/ab/abcd…     the finished image of a snapshot and a config, or the index of several

Compile is pure, so a Plan found under the same digest is the one that it would give, as long as the base
images are what they were (their `states` say so) and pybuild is the same (its files are in the digest).
Plain data and json only: this is the path of a fully cached build.
"""

from __future__ import annotations

import os

from builder import __version__, plainjson
from builder.digest import Digest, of_value
from builder.graph.selection import Selection
from builder.oci.finished import Finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from builder.compiler.program import ImageRequest, Programs
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import Snapshot
    from builder.solver.cache import Cache

FORMAT = 2


class Row:
    """A vertex: `inputs` are (index of a row, selection or None); `local` is a context's name or ""."""

    __slots__ = ("digest", "inputs", "internal", "label", "line", "local", "op", "stage")

    def __init__(
        self,
        digest: str,
        op: str | None,
        inputs: list[tuple[int, Selection | None]],
        local: str,
        label: str,
        stage: str,
        line: int,
        internal: bool,
    ) -> None:
        self.digest = digest
        self.op = op
        self.inputs = inputs
        self.local = local
        self.label = label
        self.stage = stage
        self.line = line
        self.internal = internal


class Plan:
    """A compiled definition. states: (locator, platform, state) of each base; targets: (index of a row, name
    of its config) for each platform, see `output.built_name`.

    warnings: (message, rule, line, excerpt) of each. epoch: the build's time in seconds, if it has one.
    """

    __slots__ = ("epoch", "rows", "states", "targets", "warnings")

    def __init__(
        self,
        states: list[tuple[str, str, str]],
        targets: list[tuple[int, Digest]],
        rows: list[Row],
        warnings: list[tuple[str, str, int, tuple[str, ...]]],
        epoch: int | None,
    ) -> None:
        self.states = states
        self.epoch = epoch
        self.targets = targets
        self.rows = rows
        self.warnings = warnings

    @property
    def configs(self) -> list[Digest]:
        """The names of all configs, in the order of platforms."""
        return [config for _, config in self.targets]


def name_of(request: BuildRequest, texts: Texts, args: Mapping[str, str]) -> Digest:
    """The digest of all that the compile and its checks are given, but for the base images."""
    return of_value(
        [
            FORMAT, fingerprint(), texts.name, texts.dockerfile, list(texts.ignore or ()),
            texts.context is None, dict(args),
            request.target, dict(request.labels), dict(request.contexts), request.network,
            [list(host) for host in request.add_hosts], request.shm_size, list(request.ulimits),
            sorted(request.allow), request.platform, request.hostname, os.uname().machine,
            request.reproducible, texts.lock, request.locked,
        ]
    )  # fmt: skip


def fingerprint() -> list[list[object]]:
    """What tells one state of pybuild's own files from another: their names, sizes and times.

    Of an installed package, those of the list of its files are enough: installing writes it anew.
    """
    top = os.path.dirname(os.path.abspath(__file__))
    try:
        status = os.stat(os.path.join(f"{os.path.dirname(top)}/pybuild-{__version__}.dist-info", "RECORD"))
        return [["RECORD", status.st_size, status.st_mtime_ns, status.st_ino]]
    except FileNotFoundError:
        return _files_of(top)


def _files_of(top: str) -> list[list[object]]:
    grammar = os.path.join(top, "grammar")
    found: list[list[object]] = []
    for root in (top, grammar if os.path.isdir(grammar) else os.path.join(os.path.dirname(top), "grammar")):
        pending = [root]
        while pending:
            folder = pending.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith((".py", ".lark")):
                        status = entry.stat()
                        found.append([entry.path[len(root) :], status.st_size, status.st_mtime_ns])
                    elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
                        pending.append(entry.path)
    return sorted(found, key=str)


def plan_of(programs: Programs, states: list[tuple[str, str, str]], configs: Sequence[Digest]) -> Plan:
    """The Plan of programs, with the names of their configs."""
    reached = programs.reached()
    numbers = {vertex.digest: number for number, vertex in enumerate(reached)}
    rows = [
        Row(
            vertex.digest,
            vertex.op_digest,
            [(numbers[item.of], item.select) for item in vertex.inputs],
            getattr(vertex.op, "name", "") if vertex.op_digest is None else "",
            vertex.about.label,
            vertex.about.stage,
            vertex.about.location.span.line if vertex.about.location else 0,
            vertex.about.internal,
        )
        for vertex in reached
    ]
    warnings = [(w.message, w.rule, w.span.line, w.excerpt) for w in programs.warnings]
    targets = [(numbers[target], config) for target, config in zip(programs.targets, configs, strict=True)]
    return Plan(states, targets, rows, warnings, programs.source_date_epoch)


def save_plan(cache: Cache, name: Digest, plan: Plan) -> None:
    """Remember a plan."""
    rows = [
        [r.digest, r.op, [[i, s.plain() if s else None] for i, s in r.inputs], r.local, r.label, r.stage,
         r.line, r.internal]
        for r in plan.rows
    ]  # fmt: skip
    text = plainjson.dumps([plan.states, plan.targets, rows, plan.warnings, plan.epoch])
    cache.remember("programs", name, text)


def load_plan(cache: Cache, name: Digest) -> Plan | None:
    """The plan under that name; None where there is none, or it is damaged."""
    text = cache.recall("programs", name)
    if text is None:
        return None
    try:
        states, targets, rows, warnings, epoch = plainjson.loads(text)
        return Plan(
            [(locator, platform, state) for locator, platform, state in states],
            [(int(number), Digest(config)) for number, config in targets],
            [_row(row) for row in rows],
            [(message, rule, line, tuple(excerpt)) for message, rule, line, excerpt in warnings],
            int(epoch) if epoch is not None else None,
        )
    except (ValueError, TypeError):
        return None


def _row(row: list[Any]) -> Row:
    digest, op, inputs, local, label, stage, line, internal = row
    selected = [(number, Selection.from_plain(plain) if plain else None) for number, plain in inputs]
    return Row(digest, op, selected, local, label, stage, line, internal)


def states_of(
    root: str, images: Mapping[ImageRequest, object], contexts: Mapping[str, str]
) -> list[tuple[str, str, str]] | None:
    """The states of the bases that a compile was told of; None where one cannot be remembered."""
    from builder.sources.known import state_of

    states = []
    for request in images:
        state = state_of(root, request.locator, str(request.platform), contexts)
        if state is None:
            return None
        states.append((request.locator, str(request.platform), state))
    return states


def image_name(
    snapshots: Sequence[Snapshot], configs: Sequence[Digest], epoch: str, way: tuple[object, ...]
) -> Digest:
    """What names a finished image: for each platform its layers and its config; its time where that is
    given, and how it is packed (`Export.way`)."""
    return of_value([[list(snapshot) for snapshot in snapshots], list(configs), epoch, list(way)])


def save_image(cache: Cache, name: Digest, image: Finished) -> None:
    """Remember a finished image whose layers' blobs the store has."""
    cache.remember("images", name, plainjson.dumps(_plain_image(image)))


def _plain_image(image: Finished) -> list[object]:
    documents = [image.manifest_bytes.decode(), image.config_bytes.decode()]
    about = [image.row, image.config, image.layers, image.created, image.size]
    return [about, documents, [_plain_image(child) for child in image.children]]


def load_image(cache: Cache, name: Digest) -> Finished | None:
    """The finished image under that name, if any; its documents are as they were, or it counts as none."""
    text = cache.recall("images", name)
    try:
        if text is None:
            return None
        image = _image_of(plainjson.loads(text))
        return image if image.is_sound() else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _image_of(plain: Any) -> Finished:
    (row, config, layers, created, size), (manifest, document), children = plain
    below = [_image_of(child) for child in children]
    return Finished(row, manifest.encode(), config, document.encode(), layers, created, size, below)
