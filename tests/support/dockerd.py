"""A docker daemon of the tests' own, without networks, and its command."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.machine import run

_START_LIMIT = 60  # seconds


class Docker:
    """The command, for a daemon whose socket is in the folder."""

    def __init__(self, folder: Path) -> None:
        self.base = ["docker", "-H", f"unix://{folder}/socket"]

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run([*self.base, *words], check=check)

    def load(self, archive: Path, name: str) -> str:
        """Take an image from an archive of `docker save`; its name."""
        self("load", "--quiet", "--input", str(archive))
        return name

    def run(
        self, image: str, words: Sequence[str], options: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        limits = ["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1000:1000"]
        return self("run", "--rm", "--network=none", *limits, *options, image, *words, check=False)


@contextmanager
def dockerd(folder: Path) -> Iterator[Docker | str]:
    """A daemon that stores in the folder, which has a short name; or why there can be none here."""
    places = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    settings = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"]
    with open(folder / "log", "w") as log:
        daemon = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "TERM",
                "dockerd",
                "--host",
                f"unix://{folder}/socket",
                *places,
                *settings,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    docker = Docker(folder)
    try:
        deadline = time.monotonic() + _START_LIMIT
        while docker("version", check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                last = (folder / "log").read_text().strip().splitlines()[-1:]
                yield f"dockerd does not run here: {' '.join(last)[-300:]}"
                return
            time.sleep(0.1)
        yield docker
    finally:
        daemon.terminate()
        daemon.wait()
