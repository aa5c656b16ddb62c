"""What is put away while a build goes on is done by its end, one thing after the other."""

from __future__ import annotations

import threading

import pytest

from builder.tidying import Tidying


def test_nothing_is_waited_for_before_the_end() -> None:
    tidying, may_go, done = Tidying(), threading.Event(), []

    def slow() -> None:
        may_go.wait(30)
        done.append("slow")

    tidying.later(slow)
    tidying.later(lambda: done.append("next"))
    assert done == []

    may_go.set()
    tidying.finish()
    assert done == ["slow", "next"]


def test_the_end_may_come_twice_and_without_any_work() -> None:
    tidying, done = Tidying(), []
    tidying.finish()
    tidying.later(lambda: done.append("work"))
    tidying.finish()
    tidying.finish()

    assert done == ["work"]


def test_a_work_that_fails_is_told_once_the_rest_is_done() -> None:
    tidying, done = Tidying(), []

    def fail() -> None:
        raise OSError("the disk is gone")

    tidying.later(fail)
    tidying.later(lambda: done.append("rest"))

    with pytest.raises(OSError, match="the disk is gone"):
        tidying.finish()
    assert done == ["rest"]
    tidying.finish()
