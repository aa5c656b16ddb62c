"""A place where the command is run on hostile input: a store, a home, and all around it something to harm.

Each run is held to what no input may change: it ends with one error in words, in time, in little memory;
nothing around the store is other than it was, and the store has neither leftovers nor other names.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.machine import CHECKOUT
from tests.support.workshop import NOISE

MEMORY = 300 << 20
# What the command's clocks are set to: so that a test can wait for their end, or that none has to.
HASTY, PATIENT = 1.0, 20.0
USER, PASSWORD = "canary", "canary-4711"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Ended:
    """How a run ended. peak: bytes of its process, at most."""

    status: int
    out: str
    err: str
    peak: int

    @property
    def message(self) -> str:
        """Its one error."""
        found = re.findall(r"^(?:error|pybuild|pybuild \w+): (.*)$", self.err, re.MULTILINE)
        assert len(found) == 1, f"{len(found)} errors, exit {self.status}:\n{self.err[:5000]}"
        return str(found[0])


@contextmanager
def surroundings(folder: Path, clock: float = PATIENT) -> Iterator[Surroundings]:
    """A place in a new folder below `folder`."""
    place = folder / "all"
    place.mkdir()
    with closing(Surroundings(place, clock)) as opened:
        yield opened


class Surroundings:
    """folder: all there is; root: the store in it. clock: what clocks are set to (`watched`). Close it."""

    def __init__(self, folder: Path, clock: float) -> None:
        self.folder = folder
        self.root = folder / "store"
        for name in ("home", "tmp", "work", "work/context", "canary", "config"):
            (folder / name).mkdir()
        (folder / "canary/secret").write_text(PASSWORD)
        (folder / "etc").mkdir()
        (folder / "etc/passwd").write_text("kept\n")
        self._server = subprocess.Popen(
            [sys.executable, str(CHECKOUT / "tests/support/watched.py"), str(clock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(),
            cwd=folder / "work",
        )

    def log_in(self, host: str) -> None:
        """Have credentials for a host in docker's file, in plain text."""
        document = {"auths": {host: {"auth": BASIC}}}
        (self.folder / "config/config.json").write_text(json.dumps(document))

    def run(self, *words: str | os.PathLike[str], stdin: bytes = b"") -> Ended:
        """Run the command, whatever becomes of it."""
        notes = self.folder.parent / f"{self.folder.name}.notes"
        notes.mkdir(exist_ok=True)
        (notes / "in").write_bytes(stdin)
        (notes / "peak").unlink(missing_ok=True)
        request = json.dumps({"words": [os.fspath(word) for word in words], "folder": str(notes)})
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(request + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        out, err = ((notes / name).read_text(errors="replace") for name in ("out", "err"))
        assert status >= 0, f"it does not end: {err[:5000]}"
        assert NOISE.search(err) is None, err[:5000]
        peak = int((notes / "peak").read_text()) if (notes / "peak").exists() else 0
        return Ended(status, out, err, peak)

    def close(self) -> None:
        """End what runs the command."""
        self._server.communicate()

    def attack(self, *words: str | os.PathLike[str], stdin: bytes = b"") -> Ended:
        """Run the command, which is to fail, and hold it to what no input may change."""
        before, names = self.picture(), self.names()
        ended = self.run(*words, stdin=stdin)
        assert ended.status == 1, (ended.status, ended.out[:1000], ended.err[:5000])
        assert ended.message.isprintable()
        self.check(ended, before)
        assert self.names() == names, "a name for what was refused"
        return ended

    def check(self, ended: Ended, before: Sequence[object]) -> None:
        """Nothing is other than it was, but for what is in the store."""
        assert 0 < ended.peak < MEMORY, f"{ended.peak >> 20} MiB"
        assert PASSWORD not in ended.out + ended.err
        assert BASIC not in ended.out + ended.err
        assert self.picture() == before
        ingest = self.root / "ingest"
        assert not ingest.exists() or sorted(os.listdir(ingest)) == []

    def picture(self) -> list[object]:
        """All that there is to see around the store."""
        seen: list[object] = []
        for above, folders, files in os.walk(self.folder):
            if above == str(self.folder):
                folders.remove("store") if "store" in folders else None
            folders.sort()
            for name in sorted([*folders, *files]):
                path = Path(above, name)
                status = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
                seen.append((str(path), status.st_mode, status.st_uid, status.st_gid, content))
        return seen

    def names(self) -> list[dict[str, Any]]:
        """What the store has names for."""
        index = self.root / "index.json"
        if not index.exists():
            return []
        rows: list[dict[str, Any]] = json.loads(index.read_bytes())["manifests"]
        return sorted(rows, key=repr)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "default",
            "PYBUILD_ROOT": str(self.root),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "DOCKER_CONFIG": str(self.folder / "config"),
        }
