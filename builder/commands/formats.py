"""Rows as docker shows them: a table, JSON lines or a template; sizes and times in docker's words.

    --format table                  the command's own columns, with headings
    --format 'table {{.ID}}\\t{{.Size}}'    columns of one's own
    --format json                   one object a line, all fields
    --format '{{.ID}}: {{.Size}}'   a line per row

Columns are as wide as docker makes them: their longest cell and three blanks, ten at least.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from builder.commands.flags import Flag, Parsed
from builder.commands.gofunctions import HEADING_FUNCTIONS
from builder.commands.gotemplate import Template
from builder.commands.govalues import json_of
from builder.errors import UsageError
from builder.ui.words import one_line

SHOWN = "What is shown"
FORMAT = Flag(
    name="format",
    metavar="FORMAT",
    group=SHOWN,
    help="table, json, a template ('{{.ID}}'), or a table of one ('table {{.ID}}\\t{{.Size}}')",
)
TEXT_OR_JSON = FORMAT.but(help="text (the default) or json")
NONE = "<none>"
UNKNOWN = "N/A"
WIDEST_STEP, WIDEST_NAME = 80, 48  # characters of a step and of a path, where images are compared or shown
WIDEST_GAP, NARROWEST = 3, 10  # blanks behind a cell; characters of a column
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
Row = Mapping[str, object]


def show(rows: Sequence[Row], form: str, default: str, headings: Mapping[str, str]) -> None:
    """Write rows to standard output. form: the value of --format, "" or "table" is the default's columns.

    headings: what columns of fields are called. Raises UsageError for a format that is none.
    """
    rows = [dict(sorted(row.items())) for row in rows]  # as Go writes maps
    if form == "json":
        for row in rows:
            sys.stdout.write(json_of(row) + "\n")
        return
    is_table = form == "" or form.startswith("table")
    if not is_table and "{{" not in form:
        raise UsageError(
            f"--format {form}: no such format", hint="the formats are table, json, and templates: '{{.ID}}'"
        )
    text = form.removeprefix("table").strip() if is_table else form
    template = Template((text or default).replace("\\t", "\t").replace("\\n", "\n"))
    lines = [template.render(_harmless(row) if is_table or sys.stdout.isatty() else row) for row in rows]
    if is_table:
        lines = align([template.render(headings, HEADING_FUNCTIONS), *lines])
    elif not rows:
        template.render(headings, HEADING_FUNCTIONS)  # a field that is not there is a mistake all the same
    for line in lines:
        sys.stdout.write(line + "\n")


def _harmless(row: Row) -> Row:
    """Foreign text that cannot move a terminal's cursor."""
    return {key: one_line(value) if isinstance(value, str) else value for key, value in row.items()}


def align(lines: Sequence[str]) -> list[str]:
    """Lines whose cells are parted by tabs, as columns."""
    cells = [line.split("\t") for line in lines]
    count = max((len(row) for row in cells), default=0)
    widths = [
        max([NARROWEST, *(len(row[at]) + WIDEST_GAP for row in cells if at < len(row) - 1)])
        for at in range(count)
    ]
    return [
        "".join([*(cell.ljust(widths[at]) for at, cell in enumerate(row[:-1])), row[-1]]) for row in cells
    ]


def size(count: int) -> str:
    """Bytes as docker writes them: 0B, 7.38MB, 133MB."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    text = f"{value:.3g}"
    if "e" in text and unit < len(UNITS) - 1:  # 999.9 kB
        text, unit = "1", unit + 1
    return text + UNITS[unit]


def since(created: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, in docker's words: `3 weeks ago`."""
    then = moment(created)
    if then is None:
        return UNKNOWN
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    return f"{_duration(seconds)} ago"


def _duration(seconds: float) -> str:
    hours = int(seconds / 3600 + 0.5)
    days = int(seconds // 3600) // 24
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
    if seconds < 3600:
        return "About a minute" if seconds < 120 else f"{int(seconds // 60)} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{days // 365} years"


def local_time(created: str) -> str:
    """A time as docker's lists have it: `2026-01-31 12:00:00 +0100 CET`."""
    then = local_moment(created)
    return then.isoformat(" ", "seconds")[:19] + then.strftime(" %z %Z") if then else UNKNOWN


def local_moment(text: str) -> datetime | None:
    """An RFC 3339 time in this machine's zone; in its own at the calendar's ends, where there is none."""
    then = moment(text)
    try:
        return then.astimezone() if then else None
    except (OverflowError, ValueError, OSError):  # docker's zero time is before the year 1 in the Americas
        return then


def moment(text: str) -> datetime | None:
    """An RFC 3339 time, of a zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def short_id(ident: str, *, full: bool) -> str:
    """An id as lists have it: twelve digits, or all of it."""
    return ident if full else ident.removeprefix("sha256:")[:12]


def cut(text: str, width: int, *, full: bool) -> str:
    """A text of at most so many characters, an ellipsis at its end where it was longer."""
    text = text.replace("\t", " ")
    return text if full or len(text) <= width else text[: width - 1] + "…"


def wants_document(parsed: Parsed) -> bool:
    """Whether a command of TEXT_OR_JSON is to write JSON. Raises UsageError."""
    form = parsed.text("format") or "text"
    if form not in ("text", "json"):
        raise UsageError(f"--format {form}: no such format", hint="the formats are text and json")
    return form == "json"


def print_document(document: object) -> None:
    """A document as JSON that people can read."""
    sys.stdout.write(json.dumps(document, indent=4) + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """Lines without blanks at their ends."""
    for line in lines:
        sys.stdout.write(line.rstrip() + "\n")
