"""Starting a RUN step: ours beside runc, crun and bubblewrap, and a whole cheap step.

    pytest benchmarks/test_start.py [--benchmark-json FILE]   # root; busybox-static, runc, crun, bubblewrap

All start `true` on the same root of 30 layers, which is mounted already ("own overlay": ours mounts it too,
as it does in builds), and wait for its end. Ours, runc and crun make the same sandbox, out of the same spec;
bubblewrap makes namespaces, and filters and masks nothing. They take turns, so that other work on the machine
meets all of them. A line each tells the best time, the median, and the ratios of both to runc's. Our process
that starts steps runs before the first one, as in builds.

Everything is mounted in a mount namespace of this process's own, which ends with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from builder import libc
from builder.build import build
from builder.events import Event, Finished, Planned, Started
from builder.request import BuildRequest
from builder.runtime.launch import Runtime
from builder.runtime.probe import probe
from builder.runtime.spec import Root, RuntimeSpec, encode, sandbox_spec

LAYERS = 30
ROUNDS = 40
STEPS = 30
GOAL = 0.35  # of runc
GOAL_OF_STEP = 0.015  # seconds
KERNELS_OWN = ("proc", "sys", "dev")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or probe() is not None or shutil.which("busybox") is None,
    reason="needs root, namespaces and a static busybox",
)


@pytest.fixture(scope="module")
def own_mounts() -> None:
    """A mount namespace for this process; v2 cgroups beside v1 are out of sight: crun refuses both."""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    if os.path.isdir("/sys/fs/cgroup/unified"):
        libc.mount("none", "/sys/fs/cgroup/unified", "tmpfs")


class Layers:
    """The folders of a root filesystem, bottom first; each mount of it gets folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = folder / "base"
        (base / "bin").mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", base / "bin/busybox")
        for name in ("true", "sh"):
            os.symlink("busybox", base / "bin" / name)
        for name in KERNELS_OWN:
            (base / name).mkdir()
        self.lower = [str(base)]
        for number in range(LAYERS - 1):
            layer = folder / f"layer-{number}"
            layer.mkdir()
            (layer / f"file-{number}").write_text("")
            self.lower.append(str(layer))
        self._made = 0

    def spec(self) -> RuntimeSpec:
        """The sandbox of `true`, with new folders for what it changes."""
        self._made += 1
        upper, work = (self.folder / f"{name}-{self._made}" for name in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        return sandbox_spec(
            lower=self.lower, upper=str(upper), work=str(work), argv=["/bin/true"],
            env=[("PATH", "/bin"), ("HOME", "/")], cwd="/",
        )  # fmt: skip

    def mounted(self) -> tuple[RuntimeSpec, Path]:
        """The same on a root that is mounted, and where."""
        spec, root = self.spec(), self.folder / "root"
        root.mkdir()
        upper = spec.root.path
        options = f"lowerdir={':'.join(self.lower[::-1])},upperdir={upper}"
        libc.mount("overlay", str(root), "overlay", 0, f"{options},workdir={upper.replace('upper', 'work')}")
        return msgspec.structs.replace(spec, root=Root(path=str(root)), annotations={}), root


class Peer:
    """A command that starts `true` on the mounted root, and the seconds that it took."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.seconds: list[float] = []

    def take_turn(self) -> None:
        begun = time.perf_counter()
        pid = os.posix_spawn(self.command[0], self.command, {"PATH": os.environ["PATH"]})
        status = os.waitpid(pid, 0)[1]
        self.seconds.append(time.perf_counter() - begun)
        assert status == 0, self.command


def peers_of(spec: RuntimeSpec, root: Path, folder: Path) -> dict[str, Peer]:
    """Those that are installed."""
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_bytes(encode(spec))
    commands = {
        "runc": ["--root", str(folder / "runc"), "run", "--bundle", str(bundle), f"bench-{os.getpid()}"],
        "crun": ["--root", str(folder / "crun"), "run", "--bundle", str(bundle), f"bench-{os.getpid()}"],
        "bwrap": [
            "--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid", "--unshare-ipc",
            "--unshare-uts", "--unshare-cgroup", "--as-pid-1", "/bin/true",
        ],
    }  # fmt: skip
    paths = {name: shutil.which(name) for name in commands}
    return {name: Peer([path, *commands[name]]) for name, path in paths.items() if path is not None}


class Ours:
    """Our runtime, and the seconds that its steps took."""

    def __init__(self, next_spec: Callable[[], RuntimeSpec]) -> None:
        self.next_spec = next_spec
        self.seconds: list[float] = []

    async def take_turn(self, runtime: Runtime) -> None:
        spec = self.next_spec()
        begun = time.perf_counter()
        status = await runtime.run(spec, lambda stream, line: None)
        self.seconds.append(time.perf_counter() - begun)
        assert status.code == 0


def test_start(benchmark: Any, own_mounts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = Layers(tmp_path)
    spec, root = layers.mounted()
    ours = {"pybuild": Ours(lambda: spec), "pybuild, own overlay": Ours(layers.spec)}
    others = peers_of(spec, root, tmp_path)

    async def rounds(count: int) -> None:
        runtime = Runtime.start()
        try:
            for _ in range(count):
                for mine in ours.values():
                    await mine.take_turn(runtime)
                for other in others.values():
                    other.take_turn()
        finally:
            await runtime.close()

    asyncio.run(rounds(2))  # all caches are warm, and everybody's container starts
    for one in (*ours.values(), *others.values()):
        one.seconds.clear()
    benchmark.pedantic(lambda: asyncio.run(rounds(ROUNDS)), rounds=1)

    figures = {name: one.seconds for name, one in {**ours, **others}.items()}
    benchmark.extra_info.update(
        start={name: summary(seconds) for name, seconds in figures.items()}, goal=GOAL
    )
    with capsys.disabled():
        print()
        for name, seconds in figures.items():
            print(line_of(name, seconds, figures.get("runc")), flush=True)


def summary(seconds: list[float]) -> dict[str, float]:
    return {"best": min(seconds), "median": statistics.median(seconds)}


def line_of(name: str, seconds: list[float], runcs: list[float] | None) -> str:
    found = summary(seconds)
    text = f"{name:22} best {found['best'] * 1000:7.1f} ms; median {found['median'] * 1000:7.1f} ms"
    if runcs:
        least = summary(runcs)
        ratios = found["best"] / least["best"], found["median"] / least["median"]
        text += f"; of runc's {ratios[0]:.2f} and {ratios[1]:.2f}"
    return text + (f" (goal {GOAL})" if name.startswith("pybuild") else "")


# A whole step


@pytest.fixture
def context(tmp_path: Path) -> Path:
    base = Path(Layers(tmp_path / "layers").lower[0])
    folder = tmp_path / "context"
    folder.mkdir()
    steps = "".join(f"RUN : > /file-{number}\n" for number in range(STEPS))
    (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY --from=base . /\n{steps}")
    base.rename(folder.parent / "base")
    return folder


def test_cheap_step(
    benchmark: Any, context: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a step's start to the next one's: mounting, running, committing and recording it."""
    seconds: list[float] = []

    def one_build() -> None:
        events: list[Event] = []
        request = BuildRequest(
            context=str(context), root=str(tmp_path / "store"), no_cache=True,
            contexts={"base": str(tmp_path / "base")},
        )  # fmt: skip
        asyncio.run(build(request, events.append))
        seconds.extend(step_times(events))

    one_build()
    assert len(seconds) == STEPS
    seconds.clear()
    benchmark.pedantic(one_build, rounds=5)
    found = summary(seconds)
    benchmark.extra_info.update(step=found, goal=GOAL_OF_STEP)
    with capsys.disabled():
        print(
            f"\na whole cheap step     best {found['best'] * 1000:7.1f} ms; "
            f"median {found['median'] * 1000:7.1f} ms (goal {GOAL_OF_STEP * 1000:g} ms)",
            flush=True,
        )


def step_times(events: list[Event]) -> list[float]:
    """Seconds of each RUN."""
    labels: dict[str, str] = {}
    begun: dict[str, float] = {}
    found = []
    for event in events:
        if isinstance(event, Planned):
            labels = {vertex.digest: vertex.label for vertex in event.vertices}
        elif isinstance(event, Started):
            begun[event.vertex] = event.time
        elif isinstance(event, Finished) and "RUN" in labels[event.vertex]:
            found.append(event.time - begun[event.vertex])
    return found
