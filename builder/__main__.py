"""The command's process: `pybuild`, and `python -m builder`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start() -> NoReturn:
    """Run the command; one that is interrupted while it is loaded ends without a traceback, too."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        _begin_again_in_utf8()
    try:
        from builder.cli import script
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    script()


def _begin_again_in_utf8() -> None:
    """Names of files are UTF-8 in images, whatever the locale says; Python is told so only as it starts."""
    try:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    except OSError:
        return  # then all but names that are not ASCII is right


if __name__ == "__main__":
    start()
