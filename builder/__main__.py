"""The command's process: `pybuild`, and `python -m builder`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start() -> NoReturn:
    """Run the command; one that is interrupted while it is loaded ends without a traceback, too."""
    _put_own_modules_first()
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        _begin_again_in_utf8()
    try:
        from builder.cli import script
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    script()


def _put_own_modules_first() -> None:
    """Python's modules and those beside this package go before what the working folder and PYTHONPATH have.

    A project that is built may well hold a module of such a name.
    """
    python = os.path.dirname(os.__file__)
    if python in sys.path:
        at = sys.path.index(python)
        installed = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        sys.path[:] = [python, installed, *sys.path[at + 1 :], *sys.path[:at]]


def _begin_again_in_utf8() -> None:
    """Names of files are UTF-8 in images, whatever the locale says; Python is told so only as it starts."""
    try:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    except OSError:
        return  # then all but names that are not ASCII is right


if __name__ == "__main__":
    start()
