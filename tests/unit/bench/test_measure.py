"""Builds as processes: none is left behind, whenever a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.bench import measure
from builder.bench.measure import Builder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_build_is_started_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(words: list[str], **how: Any) -> subprocess.Popen[bytes]:
        started.append(popen(["sleep", "300"], **how))
        os.kill(os.getpid(), number)
        return started[0]

    def unwind(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure.subprocess, "Popen", start)
    before = {each: signal.signal(each, unwind) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt):
            Builder(()).build(str(tmp_path), str(tmp_path), "Dockerfile")
        assert [signal.getsignal(each) for each in before] == [unwind, unwind]
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

    assert started[0].returncode == -signal.SIGTERM
