"""`pybuild lock`: write down what the names in a Dockerfile lead to now, or tell what has changed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.commands.build import request_of
from builder.commands.build_flags import FLAGS
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.plan import format_of, print_document
from builder.commands.store import GLOBAL_FLAGS
from builder.ui.words import one_line

if TYPE_CHECKING:
    from builder.compiler.lock import Change
    from builder.locking import Locked

DONE, SHOWN = "What is done", "What is shown"
TAKEN = (
    "file", "target", "platform", "build-arg", "build-context", "secret", "ssh", "pull", "offline",
)  # fmt: skip
NOTHING = "nothing"


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """Write the lock file, or with --check tell how it would differ: then 1 is a file that is out of date.

    Raises BuildError.
    """
    form = format_of(parsed)
    request = request_of(parsed, environ)
    checks, keeps = parsed.switch("check"), parsed.switch("keep")
    from builder.locking import make_lock, write_lock

    locked = make_lock(request, keep=keeps)
    if not checks and not locked.is_there:
        write_lock(locked)
    if form == "json":
        print_document(_document_of(locked))
    elif not parsed.switch("quiet"):
        _tell(locked, checks=checks)
    return 1 if checks and not locked.is_there else 0


def _tell(locked: Locked, *, checks: bool) -> None:
    """The changes, which are what was asked for where nothing is written; and how it stands."""
    out = sys.stdout if checks else sys.stderr
    for change in locked.changes:
        out.write(_line(change) + "\n")
    if locked.is_there:
        how = "is up to date"
    else:
        how = "is out of date: `pybuild lock` writes it anew" if checks else "is written"
    sys.stderr.write(f"{locked.path} {how} ({_counted(locked)})\n")


def _line(change: Change) -> str:
    where = f" ({change.platform})" if change.platform else ""
    return one_line(
        f"{change.kind} {change.name}{where}: {change.before or NOTHING} -> {change.after or NOTHING}"
    )


def _counted(locked: Locked) -> str:
    kinds = [kind for kind, _, _ in locked.lock.entries()]
    names = (("image", "image", "images"), ("url", "file", "files"), ("git", "commit", "commits"))
    told = [
        f"{count} {one if count == 1 else several}"
        for kind, one, several in names
        if (count := kinds.count(kind))
    ]
    return ", ".join(told) or "it has nothing to lock"


def _document_of(locked: Locked) -> dict[str, Any]:
    return {
        "file": locked.path,
        "changed": not locked.is_there,
        "changes": [change._asdict() for change in locked.changes],
    }


COMMAND = Command(
    flags=(
        Flag(name="check", kind="switch", group=DONE,
             help="write nothing: tell what would change; the exit status is 1 if anything would"),
        Flag(name="keep", kind="switch", group=DONE,
             help="leave in the file what these flags do not ask for, as of other build arguments"),
        *(flag for flag in FLAGS if flag.name in TAKEN),
        Flag(name="quiet", short="q", kind="switch", group=SHOWN, help="tell nothing"),
        Flag(name="format", metavar="FORMAT", group=SHOWN, help="text (default) or json"),
        *GLOBAL_FLAGS,
    ),
    run=run,
    usage="pybuild lock [FLAGS] CONTEXT",
    about="Write <Dockerfile>.lock beside the Dockerfile: the digests of its base images and of the files "
    "that ADD fetches, and the commits of git repositories. Builds go by it then: --locked demands it, --pull"
    " ignores it. All stages count, or what --target needs; all platforms of --platform, else those that the "
    "file has.",
    closing="Exit status: 0 written, or up to date, 1 a name leads nowhere, or --check found changes, "
    "2 bad usage.",
)  # fmt: skip
