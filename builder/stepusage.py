"""What a RUN step used, as events tell it, and which of its limits a failed one met, as people are told.

Pure: from how a process ended (`ExitStatus`) and what its cgroup counted (`Usage`, None without one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.digest import Digest
from builder.events import Failed, Finished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.events import AnyEvent
    from builder.request import StepLimits
    from builder.runtime.launch import ExitStatus
    from builder.runtime.leaves import Usage

Figures = dict[str, float | int]
KILLED = 137  # as a shell tells SIGKILL, and docker an end for lack of memory


def figures(status: ExitStatus | None, usage: Usage | None) -> Figures:
    """The fields of Finished and Failed; of a step that was stopped there is no status."""
    found: Figures = {}
    if status is not None:
        found = {
            "cpu_seconds": status.cpu_seconds,
            "peak_memory": status.max_rss,
            "bytes_read": status.bytes_read,
            "bytes_written": status.bytes_written,
        }
    if usage is not None:
        counted: Figures = {
            "cpu_seconds": usage.cpu,
            "peak_memory": usage.memory,
            "bytes_read": usage.read,
            "bytes_written": usage.written,
        }
        found |= {name: value for name, value in counted.items() if value}
    return found


def with_figures(event: AnyEvent, used: Mapping[Digest, Figures]) -> AnyEvent:
    """The last event of a vertex, with what it used where that is known."""
    if isinstance(event, Finished | Failed) and (found := used.get(Digest(event.vertex))):
        return event.but(**found)
    return event


def exit_code(status: ExitStatus, usage: Usage | None) -> int:
    """The code of a failed step: of one that was killed for lack of memory always KILLED."""
    if lacked_memory(status, usage):
        return KILLED
    return 128 + status.signal if status.signal else status.code


def lacked_memory(status: ExitStatus, usage: Usage | None) -> bool:
    """Whether the command itself was killed for lack of memory, or the one that it ended with."""
    killed = status.signal == KILLED - 128 or status.code == KILLED
    return usage is not None and bool(usage.out_of_memory) and killed


def met_limits(status: ExitStatus, usage: Usage | None, limits: StepLimits) -> str:
    """What a message about a failed step ends with: "" or ": killed for lack of memory: …"."""
    if usage is None:
        return ""
    told = ""
    if usage.out_of_memory:
        who = "killed" if lacked_memory(status, usage) else f"{_processes(usage.out_of_memory)} killed"
        allowed = f"{shown_size(limits.memory)} allowed, " if limits.memory else ""
        peak = usage.memory or status.max_rss  # kernels before 5.19 tell none under v2
        told += f": {who} for lack of memory: {allowed}peak {shown_size(peak)}"
    if usage.forks_refused and limits.pids > 0:
        times = "once" if usage.forks_refused == 1 else f"{usage.forks_refused} times"
        told += f": no new process could be started, {times}: {limits.pids} allowed (--pids-limit)"
    return told


def shown_size(size: int) -> str:
    """Bytes as docker's limits are written: "64 MiB"; what is no whole number with one decimal."""
    value, unit = float(size), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    text = f"{value:.1f}".removesuffix(".0")
    return f"{text} {unit}"


def shown_seconds(seconds: float) -> str:
    """A duration as it is typed: "1h30m", "90s" as "1m30s", "500ms"."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((f"{hours:g}h", hours), (f"{minutes:g}m", minutes), (f"{rest:g}s", rest))
    return "".join(text for text, value in parts if value)


def _processes(number: int) -> str:
    return "1 process was" if number == 1 else f"{number} processes were"
