"""`pybuild --call=graph`: the definition as networkx sees it, with the times of earlier builds."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable

from builder import events
from builder.request import BuildRequest

BUILDS_READ = 50  # as many as are kept, at most


def show(request: BuildRequest, form: str) -> None:
    """Print the graph of what the request would build. Raises BuildError."""
    from builder.graph import view
    from builder.programs import load_programs

    programs = load_programs(request)
    wanted = {vertex.digest for vertex in programs.reached()}
    seconds = last_seconds(os.path.join(request.root, "builds"), wanted)
    sys.stdout.write(view.FORMATS[form](view.View(programs.definition, programs.targets, seconds)))


def last_seconds(builds: str, wanted: Iterable[str]) -> dict[str, float]:
    """How long each of these vertices took when it last ran, from the records of the last builds.

    A record that is gone or damaged tells nothing.
    """
    missing, found = set(wanted), {}
    for path in _recorded(builds)[:BUILDS_READ]:
        if not missing:
            break
        took = {digest: seconds for digest, seconds in _finished(path).items() if digest in missing}
        found.update(took)
        missing -= took.keys()
    return found


def _recorded(builds: str) -> list[str]:
    """The builds' event files, the newest first."""
    try:
        with os.scandir(builds) as entries:
            paths = [os.path.join(entry.path, "events.jsonl") for entry in entries]
    except OSError:
        return []
    times: dict[str, int] = {}
    for path in paths:
        with contextlib.suppress(OSError):  # it may go meanwhile
            times[path] = os.stat(path).st_mtime_ns
    return sorted(times, key=lambda path: times[path], reverse=True)


def _finished(path: str) -> dict[str, float]:
    took: dict[str, float] = {}
    try:
        with open(path, "rb") as file:
            for line in file:
                if b'"finished"' in line:
                    event = events.decode(line)
                    if isinstance(event, events.Finished):
                        took[event.vertex] = event.seconds
    except (OSError, ValueError):
        return took
    return took
