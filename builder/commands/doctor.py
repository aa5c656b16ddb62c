"""`pybuild doctor`: which rung RUN steps get here, why not a better one, and what would change that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.commands.flags import Command, Parsed
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.tables import FORMAT, print_json, wants_json
from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.isolation.survey import Finding, Survey


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Tell what was found; the exit status is 1 where no RUN step can be run at all."""
    as_json = wants_json(parsed)
    if parsed.words:
        raise UsageError(f"pybuild doctor takes no words, not {parsed.words[0]!r}")
    from builder.isolation import survey

    found = survey.survey(root_of(parsed, environ))
    if as_json:
        print_json(survey.to_json(found))
    else:
        print("\n".join(lines_of(found)))
    return 0 if found.rung else 1


def lines_of(found: Survey) -> list[str]:
    """The survey as a person reads it."""
    if found.rung:
        lines = [f"RUN steps work here; --isolation auto takes: {found.rung}"]
    else:
        lines = ["RUN steps do not work here; Dockerfiles without RUN build all the same"]
    for weakening in found.weaker:
        lines.append(f"  weaker than it could be: {weakening.line}")
        if weakening.remedy:
            lines.append(f"    to change that: {weakening.remedy}")
    width = max(len(row.name) for row in (*found.rungs, *found.further))
    lines += ["", "Rungs, best first"]
    lines += [line for row in found.rungs for line in _row(row, width)]
    lines += ["", "Beside them"]
    lines += [line for row in found.further for line in _row(row, width)]
    return lines


def _row(row: Finding, width: int) -> list[str]:
    lines = [f"  {'yes' if row.works else 'no ':3}  {row.name:{width}}  {row.detail}"]
    if row.remedy and not row.works:
        lines.append(f"  {'':3}  {'':{width}}  to change that: {row.remedy}")
    return lines


COMMAND = Command(
    flags=(FORMAT, *GLOBAL_FLAGS),
    run=run,
    usage="pybuild doctor [FLAGS]",
    about="Tell how RUN steps are isolated on this machine, why not better, and what would change that.",
    closing="Exit status: 0 where RUN steps work, 1 where they do not.",
)
