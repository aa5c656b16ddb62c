"""What is told of a step's end: which limit it met, and what it used."""

from __future__ import annotations

import pytest

from builder.digest import Digest
from builder.events import Failed, Finished, Started
from builder.request import StepLimits
from builder.runtime.launch import ExitStatus
from builder.runtime.leaves import Usage
from builder.stepusage import (
    exit_code,
    figures,
    met_limits,
    shown_seconds,
    shown_size,
    with_figures,
)

MIB = 1 << 20
LIMITS = StepLimits(memory=64 * MIB, pids=5)
ONE = Digest("sha256:" + "1" * 64)


def ended(code: int, signal: int = 0) -> ExitStatus:
    return ExitStatus(
        code=code, signal=signal, max_rss=10, cpu_seconds=0.5, bytes_read=512, bytes_written=1024
    )


def test_a_command_that_the_kernel_killed_for_lack_of_memory_is_told_so() -> None:
    usage = Usage(memory=64 * MIB, out_of_memory=1)

    assert exit_code(ended(137, 9), usage) == exit_code(ended(137), usage) == 137
    assert met_limits(ended(137, 9), usage, LIMITS) == (
        ": killed for lack of memory: 64 MiB allowed, peak 64 MiB"
    )


def test_a_child_that_was_killed_is_told_beside_the_command_s_own_end() -> None:
    usage = Usage(memory=60 * MIB, out_of_memory=2)

    assert exit_code(ended(2), usage) == 2
    assert met_limits(ended(2), usage, LIMITS) == (
        ": 2 processes were killed for lack of memory: 64 MiB allowed, peak 60 MiB"
    )


def test_where_nothing_was_asked_for_the_machine_lacked_memory() -> None:
    usage = Usage(memory=60 * MIB, out_of_memory=1)
    assert met_limits(ended(137, 9), usage, StepLimits()) == ": killed for lack of memory: peak 60 MiB"


def test_without_a_peak_of_all_that_of_the_largest_process_is_told() -> None:
    assert met_limits(ended(137, 9), Usage(out_of_memory=1), StepLimits()).endswith("peak 10 bytes")


def test_processes_that_could_not_be_started_are_told() -> None:
    usage = Usage(forks_refused=2)
    assert met_limits(ended(1), usage, LIMITS) == (
        ": no new process could be started, 2 times: 5 allowed (--pids-limit)"
    )


@pytest.mark.parametrize("usage", [None, Usage(memory=64 * MIB)])
def test_other_ends_are_told_as_they_are(usage: Usage | None) -> None:
    assert met_limits(ended(1), usage, LIMITS) == ""
    assert exit_code(ended(143, 15), usage) == 143
    assert exit_code(ended(137), usage) == 137


def test_figures_are_the_cgroup_s_where_there_is_one() -> None:
    assert figures(ended(0), None) == {
        "cpu_seconds": 0.5, "peak_memory": 10, "bytes_read": 512, "bytes_written": 1024,
    }  # fmt: skip
    assert figures(ended(0), Usage(memory=7, cpu=1.5)) == {
        "cpu_seconds": 1.5, "peak_memory": 7, "bytes_read": 512, "bytes_written": 1024,
    }  # fmt: skip
    assert figures(None, Usage(memory=7)) == {"peak_memory": 7}
    assert figures(None, None) == {}


def test_the_last_event_of_a_step_has_them() -> None:
    used = {ONE: figures(ended(0), None)}
    finished = Finished(time=1.0, vertex=ONE, seconds=2.0)
    failed = Failed(time=1.0, vertex=ONE, seconds=2.0, error="x")
    other = Finished(time=1.0, vertex="sha256:" + "2" * 64, seconds=2.0)

    assert with_figures(finished, used) == finished.but(
        cpu_seconds=0.5, peak_memory=10, bytes_read=512, bytes_written=1024
    )
    assert getattr(with_figures(failed, used), "peak_memory", 0) == 10
    assert with_figures(other, used) is other
    started = Started(time=1.0, vertex=ONE)
    assert with_figures(started, used) is started


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (64 * MIB, "64 MiB"), (3 << 50, "3072 TiB")],
)
def test_sizes_are_shown_in_powers_of_1024(size: int, text: str) -> None:
    assert shown_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (1, "1s"), (90, "1m30s"), (3600, "1h"), (5400, "1h30m"), (1.5, "1.5s")],
)
def test_durations_are_shown_as_they_are_typed(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text
