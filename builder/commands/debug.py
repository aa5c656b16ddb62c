"""`pybuild debug`: into what the last failed step left, and what it had changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.commands import values
from builder.commands.flags import Command, Flag, Parsed
from builder.commands.store import GLOBAL_FLAGS, root_of
from builder.commands.tables import FORMAT, ago, print_json, print_table, wants_json
from builder.errors import UsageError
from builder.ui.words import clean, one_line, size

if TYPE_CHECKING:
    from builder.failed import FailedStep
    from builder.request import BuildRequest
    from builder.store.root import Store

DASHES = "--"
LONGEST_LABEL = 60  # of a table's row
SHOWN, GIVEN = "What is shown", "What it is given"


def run(parsed: Parsed, environ: Mapping[str, str]) -> int:
    """A shell, a command's exit status, a list or a diff. Raises BuildError."""
    wanted = [name for name in ("list", "diff") if parsed.switch(name)]
    as_json = wants_json(parsed)
    build, command = _words(parsed)
    if len(wanted) > 1 or (wanted and command):
        what = "--list and --diff" if len(wanted) > 1 else f"--{wanted[0]} and a command"
        raise UsageError(f"{what} cannot be used together")
    if as_json and not wanted:
        raise UsageError("--format is for --list and --diff")
    from builder.store.root import open_store

    store = open_store(root_of(parsed, environ))
    if wanted == ["list"]:
        return _list(store, build, as_json=as_json)
    from builder.failed import find

    kept = find(store, build)
    if wanted == ["diff"]:
        return _diff(store, kept, as_json=as_json)
    return _visit(store, kept, command, _request(parsed, environ, kept))


def _words(parsed: Parsed) -> tuple[str, list[str]]:
    """(the build's id or "", the command or nothing)."""
    words, command = parsed.words[: len(parsed.words) - len(parsed.behind)], parsed.behind
    if len(words) > 1:
        hint = f"a command stands after {DASHES}: pybuild debug {DASHES} {' '.join(words)}"
        raise UsageError(f"one build is taken, not {len(words)}: {' '.join(words)}", hint=hint)
    return (words[0] if words else ""), command


def _request(parsed: Parsed, environ: Mapping[str, str], kept: FailedStep) -> BuildRequest:
    """What the step is given once more: secrets and agents, and the devices that it was granted."""
    from builder.request import BuildRequest

    secrets = {s.id: s for s in (values.secret(text, environ) for text in parsed.all("secret"))}
    return BuildRequest(
        context=".",
        root=root_of(parsed, environ),
        secrets=tuple(secrets.values()),
        ssh=values.ssh(parsed.all("ssh"), environ),
        allow=kept.allow,
        cdi_spec_dirs=kept.cdi_spec_dirs,
        network_helper=kept.network_helper,
        runtime=kept.runtime,
    )


def _list(store: Store, build: str, *, as_json: bool) -> int:
    from builder.failed import kept_steps

    steps = [step for step in kept_steps(store) if step.build.startswith(build)]
    if as_json:
        for step in steps:
            print_json(_as_object(step))
        return 0
    rows = [
        [
            step.build,
            ago(_rfc3339(step.time)),
            str(step.status),
            size(step.size),
            step.place,
            _cut(step),
        ]
        for step in steps
    ]
    print_table(["BUILD", "FAILED", "STATUS", "SIZE", "PLACE", "STEP"], rows)
    return 0


def _diff(store: Store, kept: FailedStep, *, as_json: bool) -> int:
    from builder import debug

    for change in debug.diff(store, kept):
        if as_json:
            print_json({"Kind": change.kind, "Path": change.path, "Size": change.size})
        else:
            print(change.kind, one_line(change.path))
    return 0


def _visit(store: Store, kept: FailedStep, command: list[str], request: BuildRequest) -> int:
    """Go in; a shell needs a terminal, a command has none."""
    from builder.commands.termination import hold_signals
    from builder.runtime.console import find_console

    console = None if command else find_console("`pybuild debug`")
    held = hold_signals()
    from builder.isolation.choose import stand

    standing = stand(kept.rung, request.root)  # before there are threads
    from builder import debug
    from builder.commands.drive import drive
    from builder.ui.reader import Quiet

    if console is not None:
        _tell(f"{one_line(kept.label)} failed here (status {kept.status}); what changes is not kept")
    how = debug.Visit(request, command, console, _tell, _write)
    return drive(debug.visit(store, kept, standing, how), Quiet(), held)


def _tell(line: str) -> None:
    sys.stderr.write(f"{clean(line)}\n")
    sys.stderr.flush()


def _write(stream: int, output: bytes) -> None:
    """Output of a command, as it comes; a reader that has gone ends it (SIGPIPE's meaning)."""
    view = memoryview(output)
    while view:
        view = view[os.write(stream, view) :]


def _as_object(step: FailedStep) -> dict[str, object]:
    return {
        "Build": step.build,
        "FailedAt": _rfc3339(step.time),
        "Status": step.status,
        "Size": step.size,
        "Place": step.place,
        "Step": step.label,
        "Error": step.message,
        "Isolation": step.rung,
    }


def _cut(step: FailedStep) -> str:
    label = one_line(step.label)
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def _rfc3339(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


COMMAND = Command(
    flags=(
        Flag(name="list", kind="switch", group=SHOWN, help="list the failed steps that are kept"),
        Flag(name="diff", kind="switch", group=SHOWN,
             help="show what the step had added (A), changed (C) and deleted (D)"),
        FORMAT,
        Flag(name="secret", kind="list", metavar="id=NAME,...", group=GIVEN,
             help="a secret that the step had, as for build: values are not kept"),
        Flag(name="ssh", kind="list", metavar="ID[=SOCKET|KEY]", group=GIVEN,
             help="an ssh agent that the step had, as for build"),
        *GLOBAL_FLAGS,
    ),
    run=run,
    usage="pybuild debug [FLAGS] [BUILD] [-- COMMAND...]",
    about="Open a shell (or run a command) where the last failed RUN step failed: in its root file system as "
    "it left it, as its user, with its environment, mounts and network. What is changed there is not kept.",
    closing="Exit status: the shell's or the command's.",
)  # fmt: skip
