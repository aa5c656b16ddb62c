"""Builds as commands of their own, timed from outside, and what their events tell of them.

Each is a process like that of a user who builds: its start counts, and it ends with a finished image in the
bench's store. A Ctrl-C at a terminal reaches it too; else it is told, and waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from builder.bench.values import StepRun, Timing
from builder.events import (
    AnyEvent,
    BuildFailed,
    BuildFinished,
    Cached,
    Finished,
    Planned,
    VertexInfo,
    decode,
)  # fmt: skip

GRACE_SECONDS = 10.0
TOLD_LINES = 12  # of what a failed build wrote


@dataclass
class Watch:
    """What the events of one build come to; `written`: the lines that are none."""

    rows: dict[str, VertexInfo] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    failed: str = ""
    image: str = ""
    written: list[str] = field(default_factory=list)

    def take(self, line: bytes) -> None:
        """Take one line of standard error."""
        try:
            self._take(decode(line))
        except ValueError:
            self.written.append(line.decode("utf-8", "replace").rstrip())

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Planned():
                self.rows = {row.digest: row for row in event.vertices}
            case Finished():
                self.took[event.vertex] = event.seconds
                self.cached.discard(event.vertex)
            case Cached():
                self.cached.add(event.vertex)
            case BuildFinished():
                self.image = event.image
            case BuildFailed():
                self.failed = event.error

    def timing(self, seconds: float, status: int) -> Timing:
        """The build that was watched; why it failed, if its exit status is not 0."""
        shown = [row for row in self.rows.values() if not is_internal(row)]
        ran = tuple(
            StepRun(row.label.partition("] ")[2] or row.label, row.stage, row.line, self.took[row.digest])
            for row in shown
            if row.digest in self.took
        )
        error = ""
        if status:
            told = "\n".join(self.written[-TOLD_LINES:]).strip()
            error = told or self.failed or f"the build ended with exit status {status}"
        return Timing(seconds, len(shown), ran, error, self.image)


def is_internal(row: VertexInfo) -> bool:
    """Whether a vertex is no step that people count."""
    return row.label.startswith(("[internal]", "[context ", "[fetch]"))


@dataclass(frozen=True, slots=True)
class Builder:
    """What runs the builds. flags: as typed, but for the store, the context and the Dockerfile."""

    flags: tuple[str, ...]

    def build(self, root: str, context: str, dockerfile: str) -> Timing:
        """One build of a folder into a store. Raises KeyboardInterrupt and SystemExit as they come."""
        words = [sys.executable, "-P", "-m", "builder", "build", "--root", root, "--progress=rawjson"]
        words += [*self.flags, "-f", dockerfile, "--", context]
        environment = {name: value for name, value in os.environ.items() if name != "BUILDKIT_PROGRESS"}
        watch, begun = Watch(), time.perf_counter()
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        process: subprocess.Popen[bytes] | None = None
        try:
            with _held_signals():
                process = subprocess.Popen(words, stdin=null, stdout=null, stderr=pipe, env=environment)
            assert process.stderr is not None
            with process.stderr as stream:
                for line in stream:
                    watch.take(line)
            status = process.wait()
        except BaseException as error:
            if process is not None:
                _end(process, error)
            raise
        return watch.timing(time.perf_counter() - begun, status)


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """What would unwind does so behind the block: amid Popen, nobody would know of the process yet.

    The handlers are put back the last one first, and one may unwind at once: SIGINT's, the first, is last.
    """
    held: list[int] = []
    try:
        with contextlib.ExitStack() as put_back:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                handler = signal.getsignal(number)
                if callable(handler):
                    put_back.callback(signal.signal, number, handler)
                    signal.signal(number, lambda number, _frame: held.append(number))
            yield
    finally:
        if held:
            signal.raise_signal(held[0])


def _end(process: subprocess.Popen[bytes], error: BaseException) -> None:
    """See to it that a build ends: at a terminal it was told to, by what told us."""
    if process.stderr is not None:
        process.stderr.close()
    if not (isinstance(error, KeyboardInterrupt) and sys.stdin is not None and sys.stdin.isatty()):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def seconds_of(timings: Iterable[Timing]) -> dict[tuple[str, str], float]:
    """How long each step took, by stage and text: the median of when it ran, all builds counted."""
    took: dict[tuple[str, str], list[float]] = {}
    for timing in timings:
        for run in timing.ran:
            took.setdefault((run.stage, run.text), []).append(run.seconds)
    return {name: _median(values) for name, values in took.items()}


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
