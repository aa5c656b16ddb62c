"""`pybuild --plan`: what a build would do and why, on standard output; nothing is built."""

from __future__ import annotations

import json
import sys
from typing import Any

from builder.commands.flags import Parsed, nearest
from builder.errors import UsageError
from builder.request import BuildRequest

FORMATS = ("text", "json")
INSTEAD = ("call", "check", "print")


def is_wanted(parsed: Parsed) -> bool:
    """Whether --plan is on. Raises UsageError for what goes only with it, or not with it."""
    wanted = "plan" in parsed and parsed.switch("plan")
    for name in ("assume", "format"):
        if name in parsed and not wanted:
            raise UsageError(f"--{name} is for --plan", hint=f"add --plan, or leave out --{name}")
    for name in INSTEAD:
        if wanted and name in parsed:
            raise UsageError(f"--plan and --{name} cannot be used together")
    return wanted


def format_of(parsed: Parsed) -> str:
    """The --format. Raises UsageError for one that is not there."""
    chosen = parsed.text("format") or FORMATS[0]
    if chosen not in FORMATS:
        hint = nearest(chosen, FORMATS) or f"the formats are {' and '.join(FORMATS)}"
        raise UsageError(f"--format {chosen}: no such format", hint=hint)
    return chosen


def show_plan(parsed: Parsed, request: BuildRequest) -> int:
    """Print the plan of a request. Raises BuildError."""
    form = format_of(parsed)
    assume = parsed.all("assume")
    from builder.explain import told
    from builder.explain.plan import plan

    account = plan(request, assume)
    if form == "json":
        head = {
            "kind": "plan",
            "context": told.shown_address(request.context),
            "dockerfile": told.shown_address(request.dockerfile or "Dockerfile"),
            "target": request.target,
            "platform": request.platform,
            "assumed": assume,
        }
        print_document(told.document_of(account, head))
    else:
        sys.stdout.write(told.text_of(account))
    return 0


def print_document(document: dict[str, Any]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
