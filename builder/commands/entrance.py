"""`--on-failure=shell`: a person at a terminal, who goes in where a RUN step fails.

Loaded where it is asked for only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.runtime.console import find_console
from builder.ui.diagnostics import render
from builder.ui.stream import Stream, allows_color, paint
from builder.ui.words import one_line

if TYPE_CHECKING:
    from builder.aftermath import Entrance
    from builder.errors import StepFailed


def open_entrance(environ: Mapping[str, str]) -> Entrance:
    """The entrance of this process's terminal. Raises UsageError where there is none."""
    from builder.aftermath import Entrance

    color = allows_color(sys.stderr, environ)

    def introduce(error: StepFailed, shell: str) -> None:
        heading = f"{one_line(shell)} where it failed; leaving it ends the build, and changes are thrown away"
        Stream(sys.stderr).write(render(error, color=color) + f"\n{paint(heading, 'bold', color=color)}\n")

    return Entrance(find_console("--on-failure=shell"), introduce)
