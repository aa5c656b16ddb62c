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
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.machine import CHECKOUT
from tests.support.workshop import NOISE

SECONDS = 120  # after which nothing may still be at work
MEMORY = 300 << 20
CLOCK = 1.0  # what the command's clocks are set to, so that a test can wait for their end
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


class Surroundings:
    """folder: all there is; root: the store in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "store"
        for name in ("home", "tmp", "work", "work/context", "canary", "config"):
            (folder / name).mkdir()
        (folder / "canary/secret").write_text(PASSWORD)
        (folder / "etc").mkdir()
        (folder / "etc/passwd").write_text("kept\n")

    def log_in(self, host: str) -> None:
        """Have credentials for a host in docker's file, in plain text."""
        document = {"auths": {host: {"auth": BASIC}}}
        (self.folder / "config/config.json").write_text(json.dumps(document))

    def run(self, *words: str | os.PathLike[str], clock: float = CLOCK, stdin: bytes = b"") -> Ended:
        """Run the command, whatever becomes of it. Raises TimeoutExpired where it does not end."""
        report = self.folder.parent / f"{self.folder.name}.peak"
        report.unlink(missing_ok=True)
        watched = CHECKOUT / "tests/support/watched.py"
        done = subprocess.run(
            [sys.executable, str(watched), str(report), str(clock), *map(os.fspath, words)],
            input=stdin,
            capture_output=True,
            env=self._environment(),
            cwd=self.folder / "work",
            timeout=SECONDS,
            check=False,
        )
        err = done.stderr.decode(errors="replace")
        assert NOISE.search(err) is None, err[:5000]
        peak = int(report.read_text()) if report.exists() else 0
        return Ended(done.returncode, done.stdout.decode(errors="replace"), err, peak)

    def attack(self, *words: str | os.PathLike[str], clock: float = CLOCK, stdin: bytes = b"") -> Ended:
        """Run the command, which is to fail, and hold it to what no input may change."""
        before, names, began = self.picture(), self.names(), time.monotonic()
        ended = self.run(*words, clock=clock, stdin=stdin)
        assert time.monotonic() - began < SECONDS
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
