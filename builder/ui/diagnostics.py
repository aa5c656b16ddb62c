"""Errors as people read them: what is wrong, where in the Dockerfile, what it said last, what to do.

The one place where a BuildError becomes text. All of it may come from a hostile Dockerfile or step, so
every piece is cleaned; colours are added here only.
"""

from __future__ import annotations

from builder.errors import BuildError, StepFailed, UsageError
from builder.ui.stream import paint
from builder.ui.words import clean

TAIL_LINES = 20
LONGEST_LINE = 1000  # characters; of a longer one the two ends are shown
MOST_LINES = 20  # of a message, or an excerpt; of more the two ends are shown
LAST_LINES = 2


def render(error: BuildError, *, color: bool = False) -> str:
    """The error's text, ending with a newline.

    A usage error is two lines at most. Any other: the message, the place with an excerpt, the last lines
    of the failed step, the notes, and the hint.
    """
    blocks = [[_heading(error, color=color)]]
    if error.location is not None:
        blocks.append(_place(error, color=color))
    if isinstance(error, StepFailed) and error.tail:
        blocks.append(_tail(error, color=color))
    if error.notes:
        blocks.append([f"note: {line}" for note in error.notes for line in _lines(note)])
    if error.hint:
        hint = [paint("hint: ", "busy", color=color) + " ".join(_lines(error.hint))]
        if len(blocks) == 1:
            blocks[0] += hint
        else:
            blocks.append(hint)
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _heading(error: BuildError, *, color: bool) -> str:
    name = "pybuild" if isinstance(error, UsageError) else "error"
    first, *rest = _fewer([_shortened(line) for line in _lines(error.message)]) or [""]
    return "\n".join([paint(f"{name}: ", "badge", color=color) + first, *(f"  {line}" for line in rest)])


def _place(error: BuildError, *, color: bool) -> list[str]:
    from builder.text import excerpt

    assert error.location is not None
    lines = [paint(clean(str(error.location)), "bold", color=color)]
    rows = _fewer(excerpt(error.location).split("\n"))
    is_cut = any(len(row) > LONGEST_LINE for row in rows)
    for line in rows:
        is_marker = line.lstrip(" |").startswith("^")
        if is_marker and is_cut:  # it would be under something else
            continue
        meant = is_marker or "| >>>" in line[:12]
        lines.append(paint(_shortened(clean(line)), "bad" if meant else "dim", color=color))
    return lines


def _tail(error: StepFailed, *, color: bool) -> list[str]:
    shown = [_shortened(clean(line)) for line in error.tail[-TAIL_LINES:]]
    heading = "the last line it wrote:" if len(shown) == 1 else f"the last {len(shown)} lines it wrote:"
    return [heading, *(paint("  | ", "dim", color=color) + line for line in shown)]


def _shortened(line: str) -> str:
    if len(line) <= LONGEST_LINE:
        return line
    end = LONGEST_LINE // 2
    return f"{line[:end]} … {line[-end:]}"


def _fewer(lines: list[str]) -> list[str]:
    left_out = len(lines) - MOST_LINES
    if left_out <= 1:
        return lines
    return [*lines[: MOST_LINES - LAST_LINES], f"… {left_out} more lines", *lines[-LAST_LINES:]]


def _lines(text: str) -> list[str]:
    return [clean(line) for line in text.split("\n") if line.strip()]
