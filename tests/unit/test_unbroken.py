"""Blocks that no signal breaks."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from builder.unbroken import Unbroken


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    reached: list[int] = []

    def work() -> None:
        with Unbroken():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()

    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Unbroken():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_does_nothing_in_another_thread() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Unbroken():
                assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert errors == []
