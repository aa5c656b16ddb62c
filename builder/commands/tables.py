"""Tables and JSON lines on standard output: what `--format` chooses between."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from builder.commands.flags import Flag, Parsed
from builder.errors import UsageError
from builder.ui.words import one_line, plural

FORMAT = Flag(
    name="format", metavar="FORMAT", group="What is shown", help="table or json (one object a line)"
)
SPANS = ((31_557_600, "year"), (2_629_800, "month"), (604_800, "week"), (86_400, "day"), (3600, "hour"))


def wants_json(parsed: Parsed) -> bool:
    """Whether `--format json` was given. Raises UsageError for a format that is not there."""
    form = parsed.text("format", "table")
    if form not in ("table", "json"):
        what = "templates are not available in this version" if "{{" in form else "no such format"
        raise UsageError(f"--format {form}: {what}", hint="the formats are table and json")
    return form == "json"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest text, three blanks between them; foreign text made harmless."""
    cells = [list(headings), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def print_json(value: Mapping[str, object]) -> None:
    """One object on one line."""
    sys.stdout.write(json.dumps(value) + "\n")


def ago(created: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was (`3 weeks ago`); what is no time is shown as it is."""
    try:
        then = datetime.fromisoformat(created)
    except ValueError:
        return created or "unknown"
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for span, name in SPANS:
        if seconds >= 2 * span or (name == "hour" and seconds >= span):
            return f"{plural(int(seconds // span), name)} ago"
    if seconds >= 60:
        return f"{plural(int(seconds // 60), 'minute')} ago"
    return "less than a minute ago" if seconds >= 0 else "in the future"
