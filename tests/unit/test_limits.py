"""How many files a build may have open, and how many steps these are enough for."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from builder import limits
from builder.ops.exec import Exec
from builder.runtime.spec import Rlimit
from builder.stepfiles import limits_of

SOFT = 60


@contextmanager
def limited(soft: int = SOFT) -> Iterator[tuple[int, int]]:
    """A soft limit that is below the hard one. What runs the tests may have more files open by now: it gets
    no further one meanwhile, so this is no fixture."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield soft, before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_for_a_while() -> None:
    with limited() as low:
        with limits.raised_open_files() as before:
            raised = resource.getrlimit(resource.RLIMIT_NOFILE)
            with limits.raised_open_files() as again:
                pass
        after = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert again is None
    assert before == low
    assert raised == (min(low[1], limits.ENOUGH), low[1])
    assert after == low


def test_no_more_steps_run_than_there_are_files_for() -> None:
    with limited():
        few = limits.steps_at_once(16, waiting=0, caches=0)
    with limited(200):
        some = [limits.steps_at_once(wanted, waiting=20, caches=2) for wanted in (16, 3)]
        many_wait = limits.steps_at_once(16, waiting=10_000, caches=2)

    assert few == 1
    assert some == [(200 - limits.OWN - 20) // (limits.EACH + 2), 3]
    assert many_wait == 1


def test_a_step_has_the_limit_that_was_there_unless_it_asks_for_another() -> None:
    mine = Exec(("true",), (), "/", ulimits=("nofile=5:6",))

    assert limits_of(Exec(("true",), (), "/"), None) == []
    assert limits_of(Exec(("true",), (), "/"), (1, 2)) == [Rlimit(type="RLIMIT_NOFILE", soft=1, hard=2)]
    assert limits_of(mine, (1, 2)) == [Rlimit(type="RLIMIT_NOFILE", soft=5, hard=6)]
