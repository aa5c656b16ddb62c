"""The command over a store with a small base, and a context; and what a build may not leave behind."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.machine import CHECKOUT
from tests.support.processes import children, comm, command_line, dead_children, descendants

PR_SET_CHILD_SUBREAPER = 36
NOISE = re.compile(
    r"Traceback \(most recent|never retrieved|ExceptionGroup|unclosed|Warning:|Exception ignored|"
    r"never awaited|pybuild itself went wrong"
)
# Whoever runs the tests may ignore some, as nohup does; that would be handed down.
DEFAULT_SIGNALS = ["env", "--default-signal=HUP,INT,TERM"]
GOOD = "FROM busybox\nRUN echo good > /good\n"
# No registry but those on this machine can be reached, whatever it can reach: nothing listens at that port.
NO_INTERNET = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}


@dataclass(frozen=True)
class Outcome:
    """How the command ended. `message` is its one error, without the word before it."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        found = re.findall(r"^(?:error|pybuild): (.*)$", self.err, re.MULTILINE)
        assert len(found) == 1, f"{len(found)} errors, exit {self.status}:\n{self.err}"
        return str(found[0])

    @property
    def hint(self) -> str:
        found = re.findall(r"^hint: (.*)$", self.err, re.MULTILINE)
        return str(found[0]) if found else ""

    @property
    def marked(self) -> str:
        """The line of the Dockerfile that the error is about."""
        found = re.findall(r"\| >>> (.*)$", self.err, re.MULTILINE)
        return str(found[0]) if found else ""

    @property
    def digest(self) -> str:
        found = re.findall(r"^built .*?(sha256:[0-9a-f]{64})", self.err, re.MULTILINE)
        assert len(found) == 1, self.err
        return str(found[0])

    @property
    def ran(self) -> list[str]:
        """What the steps were called that were done, not taken from the cache."""
        names = dict(re.findall(r"^#(\d+) (\[.*)$", self.err, re.MULTILINE))
        done = [number for number, name in names.items() if f"#{number} DONE" in self.err]
        return [names[number] for number in done if not names[number].startswith("[internal]")]


class Workshop:
    """root: the store; context: a folder to build from."""

    def __init__(self, folder: Path, seed: Path | None) -> None:
        self.folder = folder
        self.root = folder / "store"
        self.context = folder / "context"
        self.context.mkdir()
        if seed is not None:
            shutil.copytree(seed, self.root, symlinks=True)
        adopt_orphans()
        self._others = descendants()
        self._started: list[subprocess.Popen[str]] = []

    def write(self, path: str, data: str | bytes = "") -> Path:
        """Write a file of the context."""
        file = self.context / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        return file

    def dockerfile(self, text: str) -> None:
        self.write("Dockerfile", text)

    def command(self, *words: str | os.PathLike[str], root: Path | None = None) -> list[str]:
        flags = ["build", "--root", os.fspath(root or self.root), "--progress=plain"]
        return [sys.executable, "-m", "builder", *flags, *map(os.fspath, words)]

    def environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "default", "HOME": str(self.folder)}
        return {**os.environ, **ours}

    def start(
        self,
        *words: str | os.PathLike[str],
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        root: Path | None = None,
        stdout: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a build. `before`: the words of a program that starts ours."""
        process = subprocess.Popen(
            [*DEFAULT_SIGNALS, *before, *self.command(*words, root=root)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=self.folder,
            env={**self.environment(), **(env or {})},
        )
        self._started.append(process)
        return process

    def wait_until(self, claim: Callable[[], object], seconds: float = 60) -> None:
        """Poll `claim()` until it holds, while builds are at work."""
        deadline = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < deadline, "it never came true"
            if self._started and all(process.poll() is not None for process in self._started):
                errors = [process.stderr.read() for process in self._started[-3:] if process.stderr]
                assert claim(), "\n".join(["no build is at work any more:", *errors])
                return
            time.sleep(0.005)

    def close(self) -> None:
        """Kill what a test that failed has left at work, and take leave of the dead."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        reap_orphans()

    def run(
        self,
        *words: str | os.PathLike[str],
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        root: Path | None = None,
    ) -> Outcome:
        """Run a build to its end, whatever that is. What no build may ever write is looked for."""
        return finish(self.start(*words, before=before, env=env, root=root))

    def build(
        self,
        *words: str | os.PathLike[str],
        dockerfile: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Build the context, which must go well."""
        if dockerfile is not None:
            self.dockerfile(dockerfile)
        outcome = self.run(*words, self.context, env=env)
        assert outcome.status == 0, outcome.err
        return outcome

    def fail(
        self,
        *words: str | os.PathLike[str],
        dockerfile: str | None = None,
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        root: Path | None = None,
    ) -> Outcome:
        """Build the context, which must fail with one message, and leave nothing half-made."""
        if dockerfile is not None:
            self.dockerfile(dockerfile)
        outcome = self.run(*words, self.context, before=before, env=env, root=root)
        assert outcome.status in (1, 2), (outcome.status, outcome.err)
        assert outcome.message
        self.check_clean()
        return outcome

    def check_clean(self) -> None:
        """Nothing of ended builds is left: no process, no mount, no temp folder."""
        assert self.processes() == []
        assert self.mounts() == []
        assert self.ingest() == []

    def check_usable(self, *words: str | os.PathLike[str]) -> None:
        """A build goes well now."""
        (self.folder / "good").write_text(GOOD)
        outcome = self.run(*words, "-f", self.folder / "good", self.context)
        assert outcome.status == 0, outcome.err
        self.check_clean()

    def processes(self, seconds: float = 30) -> list[str]:
        """Command lines of processes that builds started here, once the dying have had time to die."""
        deadline = time.monotonic() + seconds
        reap_orphans()
        while (left := descendants() - self._others) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [command_line(pid) for pid in left]

    def mounts(self) -> list[str]:
        """The mounts of this machine that have to do with the store or the context."""
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in lines if str(self.folder) in line]

    def ingest(self) -> list[str]:
        folder = self.root / "ingest"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def names(self) -> dict[str, str]:
        """The names in the store, with their manifests' digests."""
        rows = json.loads((self.root / "index.json").read_bytes())["manifests"]
        key = "org.opencontainers.image.ref.name"
        return {row["annotations"][key]: row["digest"] for row in rows if key in row.get("annotations", {})}


def finish(process: subprocess.Popen[str], seconds: float = 120) -> Outcome:
    """Wait for a build's end; what no build may ever write must not be there."""
    out, err = process.communicate(timeout=seconds)
    assert NOISE.search(err) is None, err
    return Outcome(process.returncode, out or "", err)


def stop(process: subprocess.Popen[str], number: signal.Signals, seconds: float) -> Outcome:
    """Send a signal; the build must have ended after that many seconds."""
    process.send_signal(number)
    return finish(process, seconds)


def adopt_orphans() -> None:
    """Whatever a child of ours leaves behind becomes our child, so that it is found (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap_orphans() -> None:
    """Wait for the dead that became our children when those who started them were killed."""
    for pid in dead_children():
        if comm(pid) == "pybuild-zygote":
            os.waitpid(pid, os.WNOHANG)


def find_process(text: str) -> int | None:
    """The innermost process below this one with `text` in its command line."""
    found = {pid for pid in descendants() if text in (line := command_line(pid)) and "-m builder" not in line}
    return next((pid for pid in found if not found & children(pid)), None)
