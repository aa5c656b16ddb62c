"""A hundred faults, spread over all that can go wrong; `python -m tests.faults` tries the thousands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.points import Point
from tests.faults.running import Plan, Workers, place_of_trials, runnable
from tests.faults.scenes import SCENES
from tests.faults.trials import SLOWEST, Result
from tests.support.machine import needs, needs_root

pytestmark = [
    pytest.mark.root,
    needs_root(),
    needs("strace", "busybox", "docker-registry", "skopeo", "mkfs.ext4"),
]

# Of each kind so many: a hundred in all. What makes the most ways to fail is looked at most.
COUNTS = {"kill": 40, "error": 34, "full": 8, "limit": 4, "signal": 6, "cut": 8}
JOBS = 2


@pytest.fixture(scope="module")
def results() -> dict[str, list[Result]]:
    """What came of the points, by kind."""
    found: dict[str, list[Result]] = {kind: [] for kind in COUNTS}
    with place_of_trials() as place, Workers(place, JOBS) as workers:
        scenes = runnable(tuple(scene.name for scene in SCENES), place)
        points = workers.survey(scenes, tuple(COUNTS))
        for result in workers.attempt(list(_spread(points))):
            found[result.kind].append(result)
    return found


def _spread(points: list[Point]) -> Iterator[Point]:
    for kind, count in COUNTS.items():
        yield from Plan((), count=count).chosen([point for point in points if point.kind == kind])


@pytest.mark.parametrize("kind", COUNTS)
def test_nothing_is_wrong_after_a_fault_and_nobody_has_to_help(
    results: dict[str, list[Result]], kind: str
) -> None:
    wrong = {
        result.point: (result.wrong, result.fault, result.err) for result in results[kind] if result.wrong
    }

    assert len(results[kind]) == COUNTS[kind]
    assert wrong == {}


def test_nothing_stays_for_ever(results: dict[str, list[Result]]) -> None:
    litter = {result.point: result.litter for rows in results.values() for result in rows if result.litter}

    assert litter == {}


def test_most_points_are_met(results: dict[str, list[Result]]) -> None:
    """Calls are counted by the thread: what a run of another order of threads does not reach is no point."""
    tried = [result for kind in ("kill", "error", "cut") for result in results[kind]]

    assert sum(result.hit for result in tried) > len(tried) * 0.8


def test_a_stop_takes_no_longer_than_it_may(results: dict[str, list[Result]]) -> None:
    assert max(result.latency for result in results["signal"]) <= SLOWEST
