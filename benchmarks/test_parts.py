"""The inner parts, each against the least that anybody could do for the same input.

    pytest benchmarks/test_parts.py [--benchmark-json FILE]

A part's result is checked before it is timed. One line each tells the goal (how many times the floor),
the best time, the ratio to the floor, and the floor itself: the same input passed through the few calls
that no implementation can do without, measured in the same run.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from isal import isal_zlib

from builder.compiler.program import Program
from builder.digest import Digest, from_hex, of_value
from builder.dockerfile import ignore as ignores
from builder.dockerfile.parser import parse
from builder.graph.definition import About, Definition, Input
from builder.graph.selection import Selection
from builder.oci import layer as layers
from builder.oci.compressed import Compression
from builder.snapshots import selection
from builder.snapshots.snapshot import FILE, FOLDER, Entry, LayerId, Snapshot
from builder.snapshots.tree import Tree
from builder.solver.cache import Cache
from builder.solver.solver import Solver
from builder.sources import context
from builder.store.statcache import StatCache
from builder.text import SourceText
from tests.support.compiling import compile_text

STAGES = 50
FILES = 5_000
VERTICES = 1_000


class Measured:
    """Times one part, and tells the line."""

    def __init__(self, benchmark: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._benchmark = benchmark
        self._name = name
        self._capsys = capsys

    def run(self, part: Callable[[], object], floor: Callable[[], object], *, times: float) -> None:
        """Time `part` against `floor`; it is to take at most so many times as long."""
        least = min(_seconds(floor) for _ in range(5))
        self._benchmark.pedantic(part, rounds=5, warmup_rounds=1)
        best = self._benchmark.stats.stats.min
        self._benchmark.extra_info.update(floor=least, goal=times, ratio=best / least)
        with self._capsys.disabled():
            print(
                f"\n{self._name:18} goal: {times:g} x floor; best {best * 1000:8.2f} ms; "
                f"ratio {best / least:6.2f}; floor {least * 1000:8.2f} ms",
                flush=True,
            )


@pytest.fixture
def measured(benchmark: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Measured:
    return Measured(benchmark, request.node.name.removeprefix("test_"), capsys)


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


# Texts and programs


def dockerfile() -> str:
    """A long Dockerfile: a stage has a FROM and twelve instructions."""
    stages = []
    for n in range(STAGES):
        stages.append(
            f"FROM busybox AS s{n}\nARG VERSION={n}\nENV A=$VERSION B=two C=three\nLABEL stage={n} by=bench\n"
            f"WORKDIR /work/{n}\nCOPY --chown=1:1 src/{n} include/*.h ./\nRUN make all \\\n    && make test\n"
            f'RUN ["/bin/sh", "-c", "echo {n}"]\nRUN --mount=type=cache,target=/cache true\n'
            f"COPY --from=busybox /etc/passwd /etc/\nUSER {n}\nEXPOSE {n + 1}\nCMD run $A\n"
        )
    return "".join(stages)


def test_parse(measured: Measured) -> None:
    source = SourceText("Dockerfile", dockerfile())
    assert len(parse(source).instructions) == 13 * STAGES

    word = re.compile(r"\S+")
    measured.run(
        lambda: parse(source),
        lambda: [word.findall(line) for line in source.text.split("\n")],
        times=200,
    )


def test_compile(measured: Measured) -> None:
    text = dockerfile() + "FROM busybox\n" + "".join(f"COPY --from=s{n} /work /w{n}\n" for n in range(STAGES))
    program = compile_text(text)
    assert isinstance(program, Program)
    assert len(program.definition.reached(program.target)) > 4 * STAGES

    plain = [[v.op_digest, v.about.label, [i.of for i in v.inputs]] for v in program.definition]
    measured.run(lambda: compile_text(text), lambda: [of_value(row) for row in plain], times=100)


# Solving


class FakeOp:
    """An op that does nothing."""

    limited = False

    def __init__(self, name: str) -> None:
        self.name = name

    def plain(self) -> list[Any]:
        return ["fake", self.name]

    async def run(self, worker: Any, inputs: Any) -> Any:
        return (*inputs[0], LayerId("layer")) if inputs else ()


def test_solve(measured: Measured, tmp_path: Path) -> None:
    """A chain of diamonds: every third vertex has two inputs."""
    definition, last = Definition(), []
    for n in range(VERTICES):
        inputs = tuple(Input(digest) for digest in (last[-2:] if n % 3 == 2 else last[-1:]))
        last.append(definition.add(FakeOp(str(n)), inputs, About(str(n))))
    number = 0

    async def run(vertex: Any, inputs: Any) -> Snapshot:
        return (LayerId(str(vertex.op.name)),)

    async def content(vertex: Any, snapshot: Snapshot, select: Selection) -> Digest:
        return of_value(select.plain())

    def solve() -> Snapshot:
        nonlocal number
        number += 1
        cache = Cache(str(tmp_path / str(number)), lambda snapshot: True)
        return asyncio.run(Solver(definition, cache, run, content, lambda event: None, 16).solve(last[-1]))

    def floor() -> None:
        """A record written, and a claim taken and removed, for each vertex."""
        folder = tmp_path / f"floor-{time.monotonic_ns()}"
        folder.mkdir()
        for n in range(VERTICES):
            for name in (f"claim-{n}", f"record-{n}"):
                (folder / name).write_text(json.dumps({"layers": [name], "seconds": 0}))
            os.unlink(folder / f"claim-{n}")

    assert solve() == (str(VERTICES - 1),)
    measured.run(solve, floor, times=8)


# Contexts


def make_context(top: Path) -> Path:
    for n in range(FILES):
        folder = top / f"d{n // 100:02}"
        if n % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"file{n:05}.txt").write_bytes(b"%d\n" % n * 200)
    long_ago = 1_000_000_000
    for path in top.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    return top


def walk(top: str, *, read: bool) -> int:
    count = 0
    for entry in os.scandir(top):
        if entry.is_dir(follow_symlinks=False):
            count += walk(entry.path, read=read)
            continue
        entry.stat(follow_symlinks=False)
        if read:
            with open(entry.path, "rb", buffering=0) as file:
                hashlib.sha256(file.read()).digest()
        count += 1
    return count


def digest_context(top: Path, cache: StatCache | None) -> Digest:
    entries = context.read(top, None, cache)
    hasher = context.Hasher(top, cache)
    name = LayerId("context")
    tree = Tree().plus(name, entries)
    return selection.digest(tree, Selection((".",)), hasher.digest_of, fill=hasher.fill)


def test_context_cold(measured: Measured, tmp_path: Path) -> None:
    top = make_context(tmp_path / "context")
    assert walk(str(top), read=False) == FILES
    first = digest_context(top, None)
    assert first == digest_context(top, None)

    measured.run(lambda: digest_context(top, None), lambda: walk(str(top), read=True), times=3)


def test_context_cached(measured: Measured, tmp_path: Path) -> None:
    top = make_context(tmp_path / "context")
    time.sleep(0.1)  # what changed within a clock tick is not cached
    cache = StatCache(tmp_path / "cache")
    first = digest_context(top, cache)
    cache.save()
    assert digest_context(top, StatCache(tmp_path / "cache")) == first

    measured.run(
        lambda: digest_context(top, StatCache(tmp_path / "cache")),
        lambda: walk(str(top), read=False),
        times=4,
    )


def test_ignore(measured: Measured) -> None:
    text = "**/*.pyc\n**/__pycache__\nnode_modules\nbuild/*/out\ndocs/**\n!docs/**/README.md\n*.log\n.git\n"
    paths = [f"src/p{n % 97}/m{n}.{'pyc' if n % 5 == 0 else 'py'}" for n in range(4 * FILES)]
    ignore = ignores.parse(text, ".dockerignore")
    assert sum(ignore.excludes(path) for path in paths) == len(paths) // 5

    one = re.compile(
        r"(?:.*/)?[^/]*\.pyc|(?:.*/)?__pycache__(?:/.*)?|node_modules(?:/.*)?|build/[^/]*/out(?:/.*)?"
    )
    measured.run(
        lambda: [path for path in paths if not ignore.excludes(path)],
        lambda: [path for path in paths if not one.fullmatch(path)],
        times=4,
    )


# Layers


def entries_with(content: dict[str, bytes]) -> list[Entry]:
    folders = sorted({path.rpartition("/")[0] for path in content})
    found = [Entry(path, FOLDER, 0o755) for path in folders]
    for path, data in content.items():
        digest = from_hex(hashlib.sha256(data).hexdigest())
        found.append(Entry(path, FILE, 0o644, size=len(data), digest=digest))
    return sorted(found, key=lambda entry: entry.path)


def test_layer_tar(measured: Measured, tmp_path: Path) -> None:
    """Many small files to a compressed blob with its two digests."""
    from builder.store.root import open_store

    content = {f"d{n // 100:02}/file{n:05}.txt": b"%d some text\n" % n * 150 for n in range(FILES)}
    rows = entries_with(content)
    blobs = open_store(str(tmp_path / "store")).blobs

    def pack() -> Any:
        with blobs.ingest() as out:
            return layers.pack(rows, lambda entry: io.BytesIO(content[entry.path]), out, Compression())

    blob = pack()
    assert blob.size > sum(map(len, content.values()))

    def floor() -> None:
        """The bytes alone: hashed, compressed, hashed again."""
        raw, packed = hashlib.sha256(), hashlib.sha256()
        squeeze = isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31)
        for data in content.values():
            header = bytes(512)
            raw.update(header)
            raw.update(data)
            packed.update(squeeze.compress(header + data))
        packed.update(squeeze.flush())

    measured.run(pack, floor, times=6)


def test_selection(measured: Measured) -> None:
    """The digest of what a COPY takes of a tree whose files' digests are known."""
    rows = entries_with({f"src/d{n // 100:03}/file{n:05}": b"%d" % n for n in range(4 * FILES)})
    rows = [Entry("src", FOLDER, 0o755), *rows]
    tree = Tree().plus(LayerId("layer"), rows)

    def known(layer: LayerId, entry: Entry) -> Digest:
        assert entry.digest is not None
        return Digest(entry.digest)

    chosen = Selection(("src/",))
    first = selection.digest(tree, chosen, known)
    assert first == selection.digest(tree, chosen, known)
    assert first != selection.digest(tree, Selection(("src/d000",)), known)

    lines = [f"{e.path}\0{e.kind}\0{e.mode}\0{e.digest}\0" for e in rows]
    measured.run(
        lambda: selection.digest(tree, chosen, known),
        lambda: hashlib.sha256("".join(lines).encode()).digest(),
        times=40,
    )
