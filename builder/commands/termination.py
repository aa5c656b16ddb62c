"""What a signal that ends the process does before, and without, a build that runs.

A build that finds everything in the cache, and writes no files, begins nothing and does without all this:
it is over before the module `signal` would be loaded. While a build runs, signals are `drive`'s.
"""

from __future__ import annotations

import os
import sys

from builder import stop
from builder.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    T = TypeVar("T")

SIGINT = 2
SOON = 0.01  # seconds
AGAIN = 0.05  # seconds, from an alarm that was not heard to the next
IMPORTLIB = "<frozen importlib"  # how its code's file names begin
HEED_SECONDS = 0.5
GRACE_SECONDS = 4.5


def unwind_on_signals() -> None:
    """From now on, SIGTERM and SIGHUP unwind as Ctrl-C does, so that what was begun is put away.

    A signal that comes while a module is loaded unwinds once that is done: an extension's code may go on with
    half of what it was making, and importlib drops the file that it has just opened.
    """
    _handle_signals(_unwind)


def stop_on_signals(work: Callable[[], T | None]) -> T | None:
    """The work's result; afterwards signals unwind. Raises Interrupted where one came before it had any.

    The first signal tells the work to stop (`builder.stop`), so that nothing breaks where it cannot be put
    right, as between a file and its name. Work that takes no heed of it is unwound, soon or by a second
    signal; what is put away for seconds, or when a second signal comes, is left as it is.
    """
    ending = _Ending()
    _handle_signals(ending.catch)
    try:
        with ending.heeding:
            result = work()
    except stop.Stopped:
        result = None
    finally:
        unwind_on_signals()
        ending.calm()
    if result is None and ending.caught:
        raise Interrupted(ending.caught[0])
    return result


class _Ending:
    """What signals do meanwhile. caught: those that came."""

    def __init__(self) -> None:
        self.caught: list[int] = []
        self.heeding = stop.Heeding()

    def catch(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.caught.append(number)
        if len(self.caught) == 1:
            self.heeding.tell()
            _set_alarm(HEED_SECONDS, self._insist)
        elif self.heeding.heeded:
            os._exit(128 + number)
        else:
            self.calm()
            _unwind(number, frame)

    def calm(self) -> None:
        """Let no alarm come any more."""
        if self.caught:
            import signal

            signal.setitimer(signal.ITIMER_REAL, 0)

    def _insist(self, _number: int, frame: FrameType | None) -> None:
        if self.heeding.heeded:
            _set_alarm(GRACE_SECONDS, lambda _number, _frame: os._exit(128 + self.caught[0]))
        elif _is_loading(frame):
            _set_alarm(SOON, self._insist)
        else:
            raise _error_of(self.caught[0])


def hold_signals() -> list[int]:
    """From now on, signals that would end the process are put into the list that this gives.

    For the time in which a build's modules are loaded, which a KeyboardInterrupt is no good for: it is
    raised in the middle of an extension's code, and msgspec's goes on with half a type and crashes later.
    """
    held: list[int] = []
    _handle_signals(lambda number, _frame: held.append(number))
    return held


def leave_soon(number: int) -> None:
    """From now on, the process ends at once where another signal comes, and after some seconds by itself.

    For who has been interrupted (by this signal) and tells it: whoever should read that may not do so.
    """
    import signal

    _handle_signals(lambda number, _frame: os._exit(128 + number))
    _set_alarm(
        signal.getitimer(signal.ITIMER_REAL)[0] or GRACE_SECONDS,
        lambda _number, _frame: os._exit(128 + number),
    )


def raise_again(ignored: sys.UnraisableHookArgs) -> None:
    """What a signal raised in a callback of Python's own, where nothing can be raised, is raised soon after.

    (A `sys.unraisablehook`.) Else the signal would be lost, with a traceback to show for it.
    """
    error = ignored.exc_value
    if not isinstance(error, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(ignored)
        return
    _raise_soon(error)


def _handle_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have the signals that would end the process handled so, but for those that it ignores."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
            signal.signal(number, handler)


def _unwind(number: int, frame: FrameType | None) -> None:
    _raise(_error_of(number), frame)


def _error_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == SIGINT else SystemExit(128 + number)


def _raise(error: BaseException, frame: FrameType | None) -> None:
    """Raise it in what runs, or soon, where that loads a module."""
    if _is_loading(frame):
        _raise_soon(error)
    else:
        raise error.with_traceback(None)


def _raise_soon(error: BaseException) -> None:
    _set_alarm(SOON, lambda _number, frame: _raise(error, frame))


def _set_alarm(seconds: float, handler: Callable[[int, FrameType | None], object]) -> None:
    """Call the handler then. One alarm alone may come just before a system call that waits, and be heard no
    sooner than that is over: so it comes again until it is heard.
    """
    import signal

    def hear(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        handler(number, frame)

    signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(IMPORTLIB):
            return True
        frame = frame.f_back
    return False
