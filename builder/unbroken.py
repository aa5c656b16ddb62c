"""A block that no signal breaks: those that come are raised when it ends.

For imports: a KeyboardInterrupt in the middle of an extension's code may be more than that can bear; msgspec
goes on with half a type and crashes. On the path of a fully cached build, where that writes files.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


class Unbroken:
    """The block. In another thread than the main one, where signals break nothing, it does nothing."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._held: list[int] = []

    def __enter__(self) -> None:
        import signal

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if not callable(before):  # it is ignored, or ends the process
                continue
            try:
                signal.signal(number, lambda number, _frame: self._held.append(number))
            except ValueError:  # not the main thread
                return
            self._before[number] = before

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import signal

        for number, before in self._before.items():
            signal.signal(number, before)
        for number in self._held[:1]:
            signal.raise_signal(number)
