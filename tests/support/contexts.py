"""Contexts written down, and what a build said: as events, as lines of RUN steps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.machine import Pybuild

OLD = 1_400_000_000


def lay(folder: Path, dockerfile: str | None = None, files: Mapping[str, str | bytes] | None = None) -> Path:
    """Write a Dockerfile and files, all of an old time; returns the folder."""
    texts: dict[str, str | bytes] = {**({"Dockerfile": dockerfile} if dockerfile is not None else {})}
    for name, text in {**texts, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        os.utime(path, (OLD, OLD))
    return folder


def events_of(text: str) -> list[dict[str, Any]]:
    """The events that `--progress=rawjson` wrote, the message of an error left out."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def lines_of(text: str, stream: int | None = None) -> list[str]:
    """What steps said, of events as text."""
    logs = [event for event in events_of(text) if event["event"] == "log"]
    return [event["line"] for event in logs if stream in (None, event["stream"])]


def said(pybuild: Pybuild, context: Path, *flags: str | os.PathLike[str], **more: Any) -> list[str]:
    """Build with these flags; the lines that the RUN steps said, none where all was cached."""
    return lines_of(pybuild("build", "--progress=rawjson", *flags, context, **more).stderr)


def steps_run(pybuild: Pybuild, context: Path, *flags: str, **more: Any) -> list[str]:
    """Build with these flags; the labels of the vertices that were run, not taken from the cache."""
    found = events_of(pybuild("build", "--progress=rawjson", *flags, context, **more).stderr)
    labels = {row["digest"]: row["label"] for event in found if event["event"] == "planned"
              for row in event["vertices"]}  # fmt: skip
    started = [labels[event["vertex"]] for event in found if event["event"] == "started"]
    return [label for label in started if not label.startswith("[internal]")]
