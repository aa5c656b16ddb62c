"""What a signal that ends the process does before, and without, a build that runs.

A build that finds everything in the cache begins nothing, and does without all this: it is over before the
module `signal` would be loaded. While a build runs, signals are `drive`'s.
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
    right, as between a file and its name; work that takes no heed of it is unwound, as it is by a second one.
    """
    import signal

    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) == 1:
            heeding.tell()
            _raise_soon(_error_of(number), HEED_SECONDS)
        else:
            _unwind(number, frame)

    with stop.Heeding() as heeding:
        _handle_signals(catch)
        try:
            result = work()
        except stop.Stopped:
            result = None
        finally:
            unwind_on_signals()
            if caught:
                signal.setitimer(signal.ITIMER_REAL, 0)
    if result is None and caught:
        raise Interrupted(caught[0])
    return result


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
    if not signal.getitimer(signal.ITIMER_REAL)[0]:  # else it ends sooner
        signal.signal(signal.SIGALRM, lambda _number, _frame: os._exit(128 + number))
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)


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


def _raise_soon(error: BaseException, seconds: float = SOON) -> None:
    import signal

    signal.signal(signal.SIGALRM, lambda _number, frame: _raise(error, frame))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(IMPORTLIB):
            return True
        frame = frame.f_back
    return False
