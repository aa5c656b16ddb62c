"""The command's process: `pybuild`, and `python -m builder`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start() -> NoReturn:
    """Run the command; one that is interrupted while it is loaded ends without a traceback, too."""
    try:
        from builder.cli import script
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    script()


if __name__ == "__main__":
    start()
