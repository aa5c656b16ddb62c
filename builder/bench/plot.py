"""The time and hit rate of each case as an SVG: two bars a case, with figures. Pure."""

from __future__ import annotations

from html import escape

from builder.bench.values import Case, Result
from builder.ui.words import one_line, seconds

ROW, LEFT, WIDE, HITS, GAP, TOP = 30, 190, 400, 140, 110, 64
TIME_COLOR, HIT_COLOR, BAD_COLOR, TEXT_COLOR = "#4472a8", "#5b9a58", "#b04a4a", "#222222"


def to_svg(result: Result) -> str:
    """The plot as a whole document, readable on white."""
    height = TOP + ROW * len(result.cases) + 20
    width = LEFT + WIDE + GAP + HITS + 70
    longest = max((case.seconds for case in result.cases), default=0.0) or 1.0
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" fill="{TEXT_COLOR}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(12, 24, f"pybuild bench: {result.dockerfile}", 'font-size="15" font-weight="bold"'),
        _text(LEFT, 50, "time"),
        _text(LEFT + WIDE + GAP, 50, "steps from the cache"),
    ]
    for number, case in enumerate(result.cases):
        lines += _case(case, TOP + number * ROW, longest)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _case(case: Case, top: int, longest: float) -> list[str]:
    length = max(1, round(case.seconds / longest * WIDE))
    hits = round(case.hit_rate * HITS)
    name = one_line(case.name)
    shown = name if len(name) <= 24 else name[:23] + "…"
    took = ("about " if case.predicted else "") + seconds(case.seconds)
    second = LEFT + WIDE + GAP
    lines = [
        _text(LEFT - 10, top + 15, shown, 'text-anchor="end"'),
        _bar(LEFT, top, length, BAD_COLOR if case.error else TIME_COLOR),
        _text(LEFT + length + 6, top + 15, took),
    ]
    if case.error:
        return [*lines, _text(second, top + 15, "failed", f'fill="{BAD_COLOR}"')]
    return [
        *lines,
        _bar(second, top, HITS, "#e8e8e8"),
        _bar(second, top, hits, HIT_COLOR),
        _text(second + HITS + 6, top + 15, f"{case.hit_rate:.0%}"),
    ]


def _bar(left: int, top: int, width: int, color: str) -> str:
    return f'<rect x="{left}" y="{top}" width="{width}" height="20" fill="{color}"/>'


def _text(left: int, top: int, text: str, attributes: str = "") -> str:
    return f'<text x="{left}" y="{top}" {attributes}>{escape(text)}</text>'
