"""A step's own order of things, with fakes for all that it works with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder import stop
from builder.agents.agent import Agents
from builder.errors import BuildError
from builder.isolation.rungs import ROOT, Isolation
from builder.ops.exec import Exec
from builder.step import refuse_impossible, run_step
from builder.tidying import Tidying


class SlowEdits:
    """A layer store that makes edits when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.discarded = 0

    def edit(self, below: object, snapshotter: object) -> Any:
        self.begun.set()
        assert self.go_on.wait(60)
        return SimpleNamespace(discard=self._discard)

    def _discard(self) -> None:
        self.discarded += 1


async def test_an_edit_that_is_made_while_the_step_is_cancelled_is_discarded(tmp_path: Path) -> None:
    layers = SlowEdits()
    with ThreadPoolExecutor(1) as pool:

        async def thread(function: Callable[..., Any], *args: Any) -> Any:
            return await stop.in_thread(pool, lambda: function(*args))

        parts: Any = SimpleNamespace(
            layers=layers,
            thread=thread,
            sandboxes=SimpleNamespace(start=lambda: None, isolation=Isolation(ROOT)),
            store=SimpleNamespace(folder=str(tmp_path)),
            agents=Agents(()),
            tidying=Tidying(),
            latest=None,
        )
        vertex: Any = None
        task = asyncio.ensure_future(run_step(parts, vertex, Exec(("true",), (), "/"), (), ()))
        assert await asyncio.to_thread(layers.begun.wait, 60)

        task.cancel()
        asyncio.get_running_loop().call_later(0.05, layers.go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    assert layers.discarded == 1


@pytest.mark.parametrize(
    ("op", "word"),
    [(Exec((), (), "/"), "no command"), (Exec(("true",), (("A", "1"), ("", "2")), "/"), "no name")],
)
def test_what_no_kernel_can_do_is_told_before_it_is_asked(op: Exec, word: str) -> None:
    with pytest.raises(BuildError, match=word):
        refuse_impossible(op)
