"""`pybuild explain`: why the steps of a build that was done ran."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.commands import values
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.plan import format_of, print_document
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.tables import ago
from builder.errors import UsageError
from builder.ui.words import one_line

if TYPE_CHECKING:
    from builder.explain.done import Recorded, Wanted

WHICH, SHOWN = "Which build", "What is shown"


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Print the account of a build. Raises BuildError."""
    form = format_of(parsed)
    if len(parsed.words) > 1:
        raise UsageError(f"one build is taken, not {len(parsed.words)}: {' '.join(parsed.words)}")
    from builder.explain import told
    from builder.explain.done import explain
    from builder.store.root import open_store

    recorded, account = explain(open_store(root_of(parsed, environ)), _wanted(parsed))
    if form == "json":
        print_document(told.document_of(account, _head(recorded)))
    else:
        sys.stdout.write(_headline(recorded) + "\n\n" + told.text_of(account, done=True))
    return 0


def _wanted(parsed: Parsed) -> Wanted:
    """A word is a folder, or else the id of a build."""
    from builder.explain.done import Wanted

    word = parsed.words[0] if parsed.words else ""
    is_context = bool(word) and (os.path.isdir(word) or "/" in word or word == "-")
    return Wanted(
        build="" if is_context else word,
        folder=os.path.realpath(word) if os.path.isdir(word) else word if is_context else "",
        dockerfile=parsed.text("file"),
        tag=values.image_name(parsed.text("tag"), "-t") if parsed.text("tag") else "",
        target=parsed.text("target"),
    )


def _headline(recorded: Recorded) -> str:
    request = recorded.request
    names = ", ".join(map(str, request.get("tags") or ())) or "an image without a name"
    when = ago(datetime.fromtimestamp(recorded.begun, UTC).isoformat())
    return one_line(
        f"build {recorded.id} of {names} from {request.get('folder') or request.get('context') or '-'}, "
        f"{when}: {recorded.outcome or 'not ended'}"
    )


def _head(recorded: Recorded) -> dict[str, object]:
    request = recorded.request
    return {
        "kind": "build",
        "build": recorded.id,
        "time": datetime.fromtimestamp(recorded.begun, UTC).isoformat(),
        "outcome": recorded.outcome or "unknown",
        "context": request.get("folder") or request.get("context"),
        "dockerfile": request.get("dockerfile") or "Dockerfile",
        "tags": request.get("tags") or [],
        "target": request.get("target") or "",
        "platform": request.get("platform") or "",
    }


COMMAND = Command(
    flags=(
        Flag(name="file", short="f", metavar="FILE", group=WHICH, help="the last one by this Dockerfile"),
        Flag(name="tag", short="t", metavar="NAME[:TAG]", group=WHICH, help="the last one of this name"),
        Flag(name="target", metavar="STAGE", group=WHICH, help="the last one for this stage"),
        Flag(name="format", metavar="FORMAT", group=SHOWN, help="text (default) or json"),
        *GLOBAL_FLAGS,
    ),
    run=run,
    usage="pybuild explain [FLAGS] [CONTEXT|BUILD]",
    about="Tell of a build that was done which of its steps ran, and why: what was different from the "
    "nearest earlier record. BUILD is an id (a name in ROOT/builds, or how it begins); the default is the "
    "last build, or the last one of CONTEXT. `pybuild --plan` tells the same of a build to come.",
    closing="Exit status: 0 told, 1 there is no such build, 2 bad usage.",
)
