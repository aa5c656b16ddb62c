"""Whole commands, side by side: pybuild and the peers found on PATH, in one run, as ratios.

    python benchmarks/compare.py [--rounds N] [--json FILE] [SCENARIO ...]

Every builder builds the same Dockerfiles from the same busybox base, taking turns. Each builder's image is
checked before its time counts. A line per scenario and builder tells the goal, the best time, the ratio
to the peer, the floor (what no builder can go below: the interpreter's bare start, or the sleeping itself),
the CPU time and the peak memory of the command and what it started. On a busy machine trust the CPU time,
which leaves out nothing but what a daemon does. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

CHECKOUT = Path(__file__).resolve().parents[1]
MB = 1 << 20


@dataclass(frozen=True)
class Scenario:
    """What is built. `{nonce}` in the Dockerfile is new for each timed build where `cold` is set."""

    name: str
    about: str
    goal: str
    dockerfile: str
    fill: Callable[[Path], None]
    expect: dict[str, str]
    cold: bool = False
    touch: str | None = None
    export: bool = False
    floor: Callable[[], float] = lambda: 0.0


@dataclass
class Timing:
    """The timed builds of one builder."""

    scenario: str
    builder: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def floor(self) -> float:
        return min(self.floors)


@dataclass(frozen=True)
class Cost:
    """What commands took, with all that they started and waited for."""

    seconds: float
    cpu: float
    peak_mb: float


# What is in the contexts


def empty(folder: Path) -> None:
    (folder / "empty").write_text("")


def sources(count: int) -> Callable[[Path], None]:
    """A file of dependencies and `count` source files of 2 kB."""

    def fill(folder: Path) -> None:
        (folder / "deps.txt").write_text("alpha==1\nbeta==2\n")
        noise = random.Random(1).randbytes(1 * MB)
        for number in range(count):
            place = folder / "src" / f"d{number // 100:03}"
            place.mkdir(parents=True, exist_ok=True)
            start = number * 997 % (len(noise) - 2000)
            (place / f"f{number:05}.txt").write_bytes(b"%d\n" % number + noise[start : start + 2000])

    return fill


def half_ignored(count: int) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        sources(count)(folder)
        for path in sorted((folder / "src").rglob("*.txt"))[1::2]:
            path.rename(path.with_suffix(".log"))
        (folder / ".dockerignore").write_text("**/*.log\n")

    return fill


def seed(folder: Path) -> None:
    """10 MB that do not compress, 10 MB of words; in pieces, as a child's peak memory is at least ours."""
    noise, words = random.Random(3), random.Random(2)
    with open(folder / "seed.bin", "wb") as file:
        for _ in range(10):
            file.write(noise.randbytes(MB))
            file.write(b" ".join(b"%x" % words.getrandbits(40) for _ in range(100_000))[:MB])


# The Dockerfiles

TWELVE_STEPS = """\
FROM {base} AS build
ENV ROUND={nonce}
WORKDIR /src
COPY deps.txt .
RUN mkdir /deps && cp deps.txt /deps/
COPY src src
RUN cat src/*/* > /src/app
FROM {base}
ENV MODE=prod
WORKDIR /app
COPY --from=build /deps /deps
COPY --from=build /src/app /app/app
RUN echo {nonce} > /round
"""
TOUCH = """\
FROM {base}
WORKDIR /app
COPY deps.txt .
RUN mkdir /deps && seq 1 20000 > /deps/list
COPY src src
RUN head -n 1 src/d000/f00000.txt > /round
"""
CONTEXT = "FROM {base}\nWORKDIR /app\nCOPY . .\nRUN find src -type f | wc -l > /count\n"
BIG = """\
FROM {base}
COPY seed.bin /seed.bin
RUN mkdir /data; for i in $(seq 20); do cp /seed.bin /data/$i; done; echo {nonce} > /round
"""


def many_runs(count: int) -> str:
    steps = "".join(f"RUN echo {number} > /f{number}\n" for number in range(count))
    return "FROM {base}\nENV ROUND={nonce}\n" + steps + "RUN echo {nonce} > /round\n"


def wide(count: int) -> str:
    stages = "".join(
        f"FROM {{base}} AS s{n}\nENV ROUND={{nonce}}\nRUN sleep 1; echo {{nonce}} > /s{n}\n"
        for n in range(count)
    )
    return stages + "FROM {base}\n" + "".join(f"COPY --from=s{n} /s{n} /\n" for n in range(count))


def bare_start() -> float:
    """The time of this interpreter doing nothing."""
    return min(_timed([sys.executable, "-c", "pass"]).seconds for _ in range(3))


SCENARIOS = [
    Scenario("cached", "12 steps in two stages, all cached", "3 x bare start", TWELVE_STEPS, sources(40),
             {"round": "{nonce}\n"}, floor=bare_start),
    Scenario("touch", "one of 2,000 source files changed", "below the peer", TOUCH, sources(2000),
             {"round": "{nonce}\n"}, cold=True, touch="src/d000/f00000.txt"),
    Scenario("runs-30", "30 cheap RUN steps and one, cold", "15 ms a step", many_runs(30), empty,
             {"f29": "29\n", "round": "{nonce}\n"}, cold=True),
    Scenario("wide-16", "16 independent stages of `sleep 1`, joined", "1 s and what the joins cost", wide(16),
             empty, {"s15": "{nonce}\n"}, cold=True, floor=lambda: 1.0),
    Scenario("context-20k", "20,000 files, half of them ignored, all cached", "one walk of the context",
             CONTEXT, half_ignored(20_000), {"count": "10000\n"}),
    Scenario("layer-400mb", "a RUN that writes 400 MB, exported as an archive", "below the peer", BIG, seed,
             {"round": "{nonce}\n"}, cold=True, export=True),
]  # fmt: skip


# The builders


class Builder:
    """Command lines of one builder with a store in `folder`."""

    name = "?"
    base = "busybox"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "out.tar"

    def commands(self, dockerfile: Path, context: Path, *, export: bool) -> list[list[str]]:
        raise NotImplementedError


class Pybuild(Builder):
    name = "pybuild"

    def prepare(self, base: Path) -> None:
        shutil.copytree(base, self.folder / "base")

    def commands(self, dockerfile: Path, context: Path, *, export: bool) -> list[list[str]]:
        program = shutil.which("pybuild", path=str(Path(sys.executable).parent)) or ""
        words = [program] if program else [sys.executable, "-m", "builder"]
        words += ["--root", str(self.folder / "store"), "-t", "bench", "-f", str(dockerfile)]
        words += ["--build-context", f"busybox=oci-layout://{self.folder / 'base'}:latest"]
        if export:
            words += ["-o", f"type=oci,dest={self.archive}"]
        return [[*words, str(context)]]


class Buildah(Builder):
    name = "buildah"
    base = "localhost/busybox"

    def tool(self) -> list[str]:
        return ["buildah", f"--root={self.folder}/root", f"--runroot={self.folder}/run"]

    def prepare(self, base: Path) -> None:
        image = _output([*self.tool(), "pull", "-q", f"oci:{base}:latest"]).split()[-1]
        _output([*self.tool(), "tag", image, "localhost/busybox:latest"])

    def commands(self, dockerfile: Path, context: Path, *, export: bool) -> list[list[str]]:
        flags = ["--layers", "--isolation=oci", "--network=host", "--runtime", shutil.which("runc") or "runc"]
        build = [*self.tool(), "build", *flags, "-t", "bench", "-f", str(dockerfile), str(context)]
        self.archive.unlink(missing_ok=True)
        return [build, [*self.tool(), "push", "bench", f"oci-archive:{self.archive}"]] if export else [build]


def files_of(builder: Builder, names: list[str]) -> dict[str, str]:
    """The named files of the image "bench", exported by the builder itself."""
    archive = builder.folder / "check.tar"
    if isinstance(builder, Pybuild):
        source = f"oci:{builder.folder / 'store'}:bench:latest"
        command = ["skopeo", "copy", "--quiet", source, f"oci-archive:{archive}"]
    else:
        command = [*Buildah(builder.folder).tool(), "push", "-q", "bench", f"oci-archive:{archive}"]
    archive.unlink(missing_ok=True)
    _output(command)
    return _read(archive, names)


def _read(archive: Path, names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(archive) as outer:

        def blob(digest: str) -> IO[bytes]:
            member = outer.extractfile("blobs/" + digest.replace(":", "/"))
            assert member is not None
            return member

        index = outer.extractfile("index.json")
        assert index is not None
        manifest = json.load(blob(json.load(index)["manifests"][0]["digest"]))
        with tempfile.TemporaryDirectory() as folder:
            for layer in manifest["layers"]:
                path = Path(folder, "layer")
                with path.open("wb") as file:
                    shutil.copyfileobj(blob(layer["digest"]), file)
                with tarfile.open(path) as inner:
                    for name in names:
                        try:
                            content = inner.extractfile(name)
                        except KeyError:
                            continue
                        if content is not None:
                            found[name] = content.read(200).decode(errors="replace")
    return found


# Running


def _timed(command: list[str]) -> Cost:
    """The cost of one command. Ends the script where it fails."""
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{output.read().decode(errors='replace')[-3000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout


def measure(scenario: Scenario, builders: list[Builder], rounds: int, work: Path) -> list[Timing]:
    """Build once to check each image, then time the rounds, the builders taking turns."""
    context = work / scenario.name
    context.mkdir()
    scenario.fill(context)
    timings = [Timing(scenario.name, builder.name) for builder in builders]
    nonce = f"check-{os.getpid()}"
    for builder in builders:
        _build(scenario, builder, context, work, nonce)
        if not scenario.export:
            _check(scenario, files_of(builder, list(scenario.expect)), nonce, builder)
        else:
            _check(scenario, _read(builder.archive, list(scenario.expect)), nonce, builder)
    for number in range(rounds):
        for builder, timing in zip(builders, timings, strict=True):
            word = f"{number}-{builder.name}" if scenario.cold else nonce
            cost = _build(scenario, builder, context, work, word)
            timing.seconds.append(cost.seconds)
            timing.cpu.append(cost.cpu)
            timing.floors.append(scenario.floor())
            timing.peak_mb = max(timing.peak_mb, cost.peak_mb)
    shutil.rmtree(context)
    return timings


def _build(scenario: Scenario, builder: Builder, context: Path, work: Path, nonce: str) -> Cost:
    dockerfile = work / f"Dockerfile.{builder.name}"
    dockerfile.write_text(scenario.dockerfile.replace("{base}", builder.base).replace("{nonce}", nonce))
    if scenario.touch:
        (context / scenario.touch).write_text(nonce + "\n")
    parts = [_timed(command) for command in builder.commands(dockerfile, context, export=scenario.export)]
    return Cost(sum(p.seconds for p in parts), sum(p.cpu for p in parts), max(p.peak_mb for p in parts))


def _check(scenario: Scenario, found: dict[str, str], nonce: str, builder: Builder) -> None:
    for name, start in scenario.expect.items():
        if not found.get(name, "").startswith(start.replace("{nonce}", nonce)):
            raise SystemExit(f"{scenario.name}: {builder.name}'s image has {found.get(name)!r} in {name}")


def line(scenario: Scenario, timing: Timing, peer: Timing) -> str:
    """What a person reads of one builder in one scenario."""
    floor = timing.floor
    above = f" (x {timing.best / floor:.2f})" if floor else ""
    return (
        f"{scenario.name:12} {timing.builder:8} goal: {scenario.goal}; best {timing.best * 1000:8.0f} ms; "
        f"ratio to {peer.builder} {timing.best / peer.best:5.2f}; floor {floor * 1000:5.0f} ms{above}; "
        f"cpu {min(timing.cpu) * 1000:6.0f} ms (x {min(timing.cpu) / min(peer.cpu):.2f}); "
        f"peak {timing.peak_mb:5.0f} MB"
    )


def busybox_layout(work: Path) -> Path:
    """An OCI layout of a busybox image, tagged `latest`."""
    sys.path.insert(0, str(CHECKOUT / "fixtures"))
    import bases

    context = bases.busybox_context(work)
    layout = work / "base"
    command = [sys.executable, "-m", "builder", "--root", str(work / "base-store"), "-q", "-t", "busybox"]
    command += ["-f", str(bases.BASES / "busybox/Dockerfile"), str(context)]
    _output(command)
    _output(["skopeo", "copy", "-q", f"oci:{work / 'base-store'}:busybox:latest", f"oci:{layout}:latest"])
    return layout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(s.name for s in SCENARIOS))
    args = parser.parse_args()
    chosen = [s for s in SCENARIOS if not args.scenarios or s.name in args.scenarios]
    results = []
    with tempfile.TemporaryDirectory(prefix="pybuild-bench-") as folder:
        work = Path(folder)
        base = busybox_layout(work)
        kinds = [Pybuild] + ([Buildah] if shutil.which("buildah") else [])
        builders = []
        for kind in kinds:
            builder = kind(work / kind.name)
            builder.folder.mkdir()
            builder.prepare(base)
            builders.append(builder)
        for scenario in chosen:
            timings = measure(scenario, builders, args.rounds, work)
            for timing in timings:
                print(line(scenario, timing, timings[-1]), flush=True)
                ratio = timing.best / timings[-1].best
                results.append(
                    asdict(timing) | {"goal": scenario.goal, "floor": timing.floor, "ratio": ratio}
                )
            if args.json:
                save(args.json, results)
    return 0


def save(path: Path, results: list[dict[str, object]]) -> None:
    """Write what was measured so far, with the machine and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    machine = {"cpus": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]}
    document = {"commit": commit.stdout.strip(), "machine": machine, "results": results}
    path.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    sys.exit(main())
