"""The Dockerfile language against the two parsers that people use from Python.

    pip install dockerfile dockerfile-parse
    pytest benchmarks/test_language.py [--benchmark-json FILE]

`dockerfile` is the reference's own parser, in Go; `dockerfile-parse` reads with regular expressions. Neither
compiles: theirs is a parse alone, ours a parse and a compile of the same texts, by a grammar that was loaded
before, as theirs is. What each finds is checked to be as many instructions before any time counts, and the
time is that of the processor: none of them waits for anything, and other work on a machine tells nothing.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.dockerfile.parser import parse
from builder.text import SourceText
from tests.support.compiling import compile_text

FILES = 300
ROUNDS = 10
pytestmark = pytest.mark.benchmark(timer=time.process_time)


def long_file(instructions: int = 400) -> str:
    """A Dockerfile of that many lines, each an instruction: stages of ten, each on the one before."""
    lines: list[str] = []
    while len(lines) < instructions:
        n = len(lines) // 10
        lines += [
            f"FROM s{n - 1} AS s{n}" if n else "FROM busybox AS s0",
            f"ARG VERSION={n}",
            "ENV A=$VERSION B=two C=three",
            f"LABEL stage={n} by=bench",
            f"WORKDIR /work/{n}",
            f"COPY --chown=1:1 src/{n} include/*.h ./",
            "RUN make all && make test && rm -rf /var/cache/apk",
            f'RUN ["/bin/sh", "-c", "echo {n}"]',
            f"EXPOSE {n + 1}",
            "CMD run $A",
        ]
    return "".join(f"{line}\n" for line in lines[:instructions])


def folder(top: Path) -> list[Path]:
    """Files as projects have them: some twenty lines, two stages, continued lines."""
    paths = []
    for n in range(FILES):
        path = top / f"{n:03}.Dockerfile"
        path.write_text(
            f"# image {n}\nFROM debian:12 AS build\nARG VERSION=1.{n}\nWORKDIR /src\nCOPY . .\n"
            "RUN apt-get update \\\n    && apt-get install -y \\\n       gcc make \\\n"
            "    && rm -rf /var/lib/apt/lists/*\nRUN make VERSION=$VERSION\n\n"
            "FROM busybox\nLABEL org.example.name=app \\\n      org.example.version=1\n"
            f"COPY --from=build /src/app /usr/bin/app{n}\nENV PORT=8{n:03} HOME=/app\n"
            'EXPOSE $PORT\nUSER 1000\nENTRYPOINT ["/usr/bin/app"]\nCMD ["--serve"]\n'
        )
        paths.append(path)
    return paths


def peer(name: str) -> Callable[[str], int]:
    """How many instructions another parser finds in a text."""
    module: Any = pytest.importorskip(name, reason=f"the package {name.replace('_', '-')} is not installed")
    if name == "dockerfile":
        return lambda text: len(module.parse_string(text))

    def count(text: str) -> int:
        parser = module.DockerfileParser(fileobj=io.BytesIO(text.encode()))
        return sum(row["instruction"] != "COMMENT" for row in parser.structure)

    return count


def best(work: Callable[[], object]) -> float:
    """Seconds of the processor that the fastest round takes."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def tell(benchmark: Any, capsys: pytest.CaptureFixture[str], name: str, theirs: float, parsed: float) -> None:
    """One line: ours (parse and compile, parse alone) against theirs."""
    ours = benchmark.stats.stats.min
    benchmark.extra_info.update(theirs=theirs, ratio=ours / theirs, parse_ratio=parsed / theirs)
    with capsys.disabled():
        print(
            f"\n{name:34} parse + compile {ours * 1000:8.2f} ms, {ours / theirs:6.2f} x theirs; "
            f"parse {parsed * 1000:8.2f} ms, {parsed / theirs:6.2f} x theirs; theirs {theirs * 1000:8.2f} ms",
            flush=True,
        )


@pytest.mark.parametrize("name", ["dockerfile", "dockerfile_parse"])
def test_a_file_of_400_lines(benchmark: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = long_file()
    count = peer(name)
    source = SourceText("Dockerfile", text)
    assert count(text) == len(parse(source).instructions) == 400

    benchmark.pedantic(lambda: compile_text(text), rounds=ROUNDS, warmup_rounds=1)

    tell(benchmark, capsys, f"400 lines, {name}", best(lambda: count(text)), best(lambda: parse(source)))


@pytest.mark.parametrize("name", ["dockerfile", "dockerfile_parse"])
def test_a_folder_of_300_files(
    benchmark: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    paths = folder(tmp_path)
    count = peer(name)

    def texts() -> list[str]:
        return [path.read_text() for path in paths]

    def parsed() -> list[int]:
        return [len(parse(SourceText("Dockerfile", text)).instructions) for text in texts()]

    assert parsed() == [count(text) for text in texts()]

    benchmark.pedantic(lambda: [compile_text(text) for text in texts()], rounds=ROUNDS, warmup_rounds=1)

    theirs = best(lambda: [count(text) for text in texts()])
    tell(benchmark, capsys, f"{FILES} files, {name}", theirs, best(parsed))


def test_a_file_of_120_instructions(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = long_file(120)
    assert len(compile_text(text).definition.vertices) >= 50

    benchmark.pedantic(lambda: compile_text(text), rounds=20, warmup_rounds=2)

    with capsys.disabled():
        print(f"\n120 instructions: parse + compile {benchmark.stats.stats.min * 1000:8.2f} ms", flush=True)
