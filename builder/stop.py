"""Stopping work in threads: what is cancelled says so, and long loops ask.

A task can be cancelled anywhere, a thread nowhere: it ends when it asks `check` and is told to. So the one
idea: who runs a blocking function through `in_thread` may be cancelled like any other task, and when that
is over the thread is over too, with all that it had begun put away. Loops whose length the user's data
decides (entries, chunks of bytes) call `check` once a round; clean-up never does. What runs without an event
loop is told by whoever has put it into a `Heeding`.

Knows nothing of what is stopped. On the path of a fully cached build: asyncio is imported where it runs.
"""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable
    from concurrent.futures import Executor
    from types import TracebackType
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")


class Stopped(Exception):
    """The work was told to stop. It ends at who has told it."""


class _Flag:
    """Whether the work that shares it is to stop, and whether any of it does."""

    __slots__ = ("heeded", "up")

    def __init__(self) -> None:
        self.up = False
        self.heeded = False

    def put_up(self) -> None:
        self.up = True


_flag: ContextVar[_Flag | None] = ContextVar("flag", default=None)


def check() -> None:
    """Raise Stopped if the work that this thread does was cancelled."""
    flag = _flag.get()
    if flag is not None and flag.up:
        flag.heeded = True
        raise Stopped


class Heeding:
    """A block in which this thread's work stops once `tell` is called."""

    def __init__(self) -> None:
        self._told = _Flag()

    @property
    def heeded(self) -> bool:
        """Whether the work has heard of it, and puts away what it had begun."""
        return self._told.heeded

    def tell(self) -> None:
        """Tell the work to stop."""
        self._told.put_up()

    def __enter__(self) -> Heeding:
        self._before = _flag.set(self._told)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flag.reset(self._before)


def shared(function: Callable[P, T]) -> Callable[P, T]:
    """The function, for threads of a pool of one's own: there it stops when this thread's work is to."""
    return _under(_flag.get(), function)


def _under(flag: _Flag | None, function: Callable[P, T]) -> Callable[P, T]:
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        _flag.set(flag)
        check()
        return function(*args, **kwargs)

    return call


async def in_thread(pool: Executor | None, function: Callable[[], T]) -> T:
    """Run a blocking function in a thread of the pool (None: the loop's own).

    Cancelled, it tells the function to stop and waits until it has.
    """
    import asyncio

    flag = _Flag()
    work = asyncio.get_running_loop().run_in_executor(pool, _under(flag, function))
    return await outlast(work, flag.put_up)


async def outlast(work: Future[T], tell: Callable[[], None] | None = None) -> T:
    """What the work of a thread gives. Cancelled, it is told, and waited for all the same: the descriptors
    that it works with may be others' soon.
    """
    import asyncio

    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if tell is not None:
            tell()
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError:
                continue  # the thread is ending already
        work.cancelled() or work.exception()  # it is nobody's any more
        raise
