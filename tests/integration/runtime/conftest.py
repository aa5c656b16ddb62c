"""A root filesystem of one static busybox, and a runtime to run commands in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from builder.runtime.launch import ExitStatus, Runtime
from builder.runtime.probe import probe
from builder.runtime.spec import RuntimeSpec, sandbox_spec
from tests.support.processes import argv, numbers

BUSYBOX = shutil.which("busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = probe()
    missing = "no static busybox on this machine" if BUSYBOX is None else reason and reason.message
    if missing:
        for item in items:
            if "integration/runtime" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer with /bin of busybox, some users, /etc, /tmp and /lib links into /usr."""
    folder = tmp_path_factory.mktemp("base")
    for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev"):
        (folder / name).mkdir()
    (folder / "tmp").chmod(0o1777)
    assert BUSYBOX is not None
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name != "busybox":
            os.symlink("busybox", folder / "bin" / name)
    for name in ("lib", "lib64"):
        os.symlink(f"usr/{name}", folder / name)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    return folder


@dataclass
class Output:
    """What a step said and how it ended."""

    status: ExitStatus
    lines: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def out(self) -> list[str]:
        return [line.decode() for stream, line in self.lines if stream == 1]

    @property
    def err(self) -> list[str]:
        return [line.decode() for stream, line in self.lines if stream == 2]


class Sandbox:
    """Makes specs on the base, and runs them."""

    def __init__(self, runtime: Runtime, base: Path, folder: Path) -> None:
        self.runtime = runtime
        self.base = base
        self.folder = folder
        self.upper = folder
        self._made = 0

    def spec(self, command: str | list[str], **changes: Any) -> RuntimeSpec:
        self._made += 1
        self.upper, work = (self.folder / f"{name}{self._made}" for name in ("upper", "work"))
        self.upper.mkdir()
        work.mkdir()
        settings: dict[str, Any] = {
            "lower": [str(self.base)],
            "upper": str(self.upper),
            "work": str(work),
            "argv": ["/bin/sh", "-c", command] if isinstance(command, str) else command,
            "env": [("PATH", "/bin")],
            "cwd": "/",
        }
        return sandbox_spec(**{**settings, **changes})

    async def run(
        self, command: str | list[str], files: Mapping[str, bytes] | None = None, **changes: Any
    ) -> Output:
        lines: list[tuple[int, bytes]] = []
        spec = self.spec(command, **changes)
        status = await self.runtime.run(spec, lambda stream, line: lines.append((stream, line)), files)
        return Output(status, lines)

    async def says(self, command: str | list[str], **changes: Any) -> list[str]:
        """The lines of standard output of a command that must end well."""
        output = await self.run(command, **changes)
        assert output.status.code == 0, output
        return output.out


@pytest_asyncio.fixture
async def sandbox(base: Path, tmp_path: Path) -> AsyncIterator[Sandbox]:
    runtime = Runtime.start()
    try:
        yield Sandbox(runtime, base, tmp_path)
    finally:
        await runtime.close()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def processes() -> Callable[[str], list[int]]:
    """Finds processes of the machine by a word of their command line."""

    def find(word: str) -> list[int]:
        return [pid for pid in numbers() if word.encode() in argv(pid)]

    return find
