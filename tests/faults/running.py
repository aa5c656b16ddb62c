"""A run: the points of the scenes asked for, tried by several workers, each result a line of the record."""

from __future__ import annotations

import compileall
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults import points, power, scenes, tracing
from tests.faults.places import Place, pick_top
from tests.faults.points import Point
from tests.faults.scenes import Scene
from tests.faults.trials import Bench, Result, read_results
from tests.support.machine import CHECKOUT
from tests.support.registry import running_registry
from tests.support.workshop import adopt_orphans

LIMITED = ("cold", "steps", "cached", "copies", "to-oci", "pull", "load")  # scenes tried with few open files
FILLED = ("cold", "steps", "cached", "copies", "touch", "failing", "pull", "to-oci", "to-folder", "load")
CUT = ("cold", "steps", "copies", "touch", "again", "pull", "tag", "renamed", "load")
STOPPED = (
    "cold",
    "steps",
    "copies",
    "again",
    "wide",
    "mounts",
    "stubborn",
    "pull",
    "to-oci",
    "to-folder",
    "load",
)
SLOW = ("stubborn",)  # scenes that are for signals alone
MOMENTS = 20  # at which each of those is stopped
MATTERING = (*tracing.NAMES, *tracing.BARRIERS, *tracing.BYTES, "fchmod")  # to a disk
LIMITS = (6, 40)  # with fewer the interpreter does not start


@dataclass(frozen=True)
class Plan:
    """What to try. match: text in a point's name; count: only so many, evenly; first, last: a range."""

    scenes: tuple[str, ...]
    kinds: tuple[str, ...] = points.KINDS
    match: str = ""
    count: int = 0
    first: int = 0
    last: int = 0
    jobs: int = 2
    record: Path = Path("faults.jsonl")

    def chosen(self, found: list[Point]) -> list[Point]:
        """The points of all that the plan means."""
        found = [point for point in found if self.match in str(point)]
        found = found[self.first : self.last or None]
        return list(points.spread(found, self.count)) if self.count else found


@contextmanager
def place_of_trials() -> Iterator[Place]:
    """A folder with the base made ready, and a registry that has it, where one is installed."""
    with ExitStack() as stack:
        top = Path(tempfile.mkdtemp(prefix="pybuild-faults-", dir=pick_top()))
        stack.callback(_remove, top)
        # Trials write none, so that a killed one leaves the code as it is.
        compileall.compile_dir(CHECKOUT / "builder", quiet=1)
        place = Place(top)
        place.make_base()
        if shutil.which("docker-registry") and shutil.which("skopeo"):
            registry = stack.enter_context(running_registry(top / "registry"))
            registry.push(place.layout, "1", "base:1")
            place.registry = registry.host
        yield place


def _remove(top: Path) -> None:
    """Remove all of it, with what workers that were stopped have started and mounted there."""
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd").startswith(os.fspath(top)):
                os.kill(int(name), signal.SIGKILL)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (place := line.split()[1]).startswith(os.fspath(top)):
            subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(top, ignore_errors=True)


class Workers:
    """Processes that each have a desk, and adopt what the commands leave behind."""

    def __init__(self, place: Place, jobs: int) -> None:
        self._pool = multiprocessing.get_context("fork").Pool(jobs, _begin_worker, (place,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_about: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def survey(self, found: list[Scene], kinds: tuple[str, ...]) -> list[Point]:
        """Make the scenes ready and tell all their points, in order."""
        rows = self._pool.map(_survey, [(scene, kinds) for scene in found], 1)
        return sorted(point for row in rows for point in row)

    def attempt(self, chosen: list[Point]) -> Iterator[Result]:
        """Try the points; results as they come."""
        return self._pool.imap_unordered(_attempt, chosen, 1)


_bench: list[Bench] = []  # of this worker process: one


def _begin_worker(place: Place) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    adopt_orphans()
    _bench.append(Bench(place, place.top / "workers" / str(os.getpid())))


def _survey(asked: tuple[Scene, tuple[str, ...]]) -> list[Point]:
    scene, kinds = asked
    bench = _bench[0]
    bench.place.make_scene(scene)
    folders = [str(path) for path in (bench.desk.disk, bench.place.context(scene))]
    found: list[Point] = []
    if {"kill", "error", "cut"} & set(kinds) and scene.name not in SLOW:
        calls = bench.survey(scene)
        found += points.of_calls(scene.name, calls, folders, kinds)
        if "cut" in kinds and scene.name in CUT and power.is_possible():
            kills = points.of_calls(scene.name, calls, folders, ("kill",))
            found += points.of_cuts([point for point in kills if point.what in MATTERING])
    if "signal" in kinds and scene.name in STOPPED:
        found += points.of_signals(scene.name, MOMENTS, random.Random(scene.name))
    if "full" in kinds and scene.name in FILLED:
        found += points.of_room(scene.name, *bench.measure(scene))
    if "limit" in kinds and scene.name in LIMITED:
        found += points.of_limits(scene.name, *LIMITS)
    return found


def _attempt(point: Point) -> Result:
    scene = next(scene for scene in scenes.SCENES if scene.name == point.scene)
    try:
        return _bench[0].attempt(scene, point)
    except (OSError, RuntimeError, ValueError, AssertionError, subprocess.SubprocessError) as error:
        # The trial's own failure: told, and not taken for a success.
        return Result(str(point), wrong=[f"the trial failed: {type(error).__name__}: {error}"[:600]])


def runnable(names: tuple[str, ...], place: Place) -> list[Scene]:
    """The scenes of these names that this machine can try."""
    found = [scene for scene in scenes.SCENES if scene.name in names]
    return [scene for scene in found if not scene.needs or place.registry]


def run(plan: Plan, *, listing: bool = False) -> int:
    """Try what the plan says and is not in the record yet. Returns 1 if anything is wrong."""
    with place_of_trials() as place, Workers(place, plan.jobs) as workers:
        chosen = plan.chosen(workers.survey(runnable(plan.scenes, place), plan.kinds))
        if listing:
            print("\n".join(map(str, chosen)))
            return 0
        known = read_results(plan.record)
        left = [point for point in chosen if str(point) not in known]
        random.Random(len(chosen)).shuffle(left)  # so that part of a run is a fair sample of it
        print(f"{len(chosen)} points, {len(left)} of them not in the record", file=sys.stderr)
        with plan.record.open("a") as file:
            for number, result in enumerate(workers.attempt(left), 1):
                file.write(json.dumps(result.row()) + "\n")
                file.flush()
                if result.wrong or result.litter:
                    print(f"{number}/{len(left)} {result.point}: {result.wrong or result.litter}"[:500])
    return summarise(plan.record)


def summarise(record: Path) -> int:
    """Print what a record says. Returns 1 if anything is wrong."""
    rows = list(read_results(record).values())
    kinds = Counter(row["point"].split("/")[1] for row in rows)
    hit = Counter(row["point"].split("/")[1] for row in rows if row["hit"] and not row["aside"])
    aside = Counter(row["point"].split("/")[1] for row in rows if row["aside"])
    for kind in kinds:
        met = f"{hit[kind]:6} met the fault, {aside[kind]:5} met it in the interpreter's files, too"
        print(f"{kind:8} {kinds[kind]:6} points, {met}")
    latencies = sorted(row["latency"] for row in rows if row["latency"])
    if latencies:
        middle, last = latencies[len(latencies) // 2], latencies[-1]
        print(f"{len(latencies)} stopped at work: after {middle} s in the median, {last} s at worst")
    wrong = [row for row in rows if row["wrong"]]
    litter = [row for row in rows if row["litter"]]
    print(f"{len(wrong)} wrong, {len(litter)} left something for ever")
    for row in (*wrong[:40], *litter[:10]):
        print(f"  {row['point']}: {(row['wrong'] or row['litter'])[0]}"[:300])
    return 1 if wrong else 0
