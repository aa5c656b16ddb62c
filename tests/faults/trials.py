"""One point tried: the fault, what the command made of it, and the normal commands after it.

What is looked at, in this order: how the command ended, and what it said; what it left behind; where it
claims to have done its work, whether that is so; whether the same command, or a normal build, then gives the
very result that it gives without a fault; whether all in the store is what it says; what stays for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import pictures, power, tracing
from tests.faults.pictures import Picture
from tests.faults.places import Desk, Ended, Place
from tests.faults.points import Point
from tests.faults.scenes import PLAIN, Scene
from tests.support.processes import command_line, descendants
from tests.support.storecheck import wrong_in
from tests.support.workshop import reap_orphans

PAGE = 4096
MANY = 1 << 16  # pages, or files, of a disk that is not full; tmpfs(5) does not go back to no limit at all
DYING_SECONDS = 10.0
LONG_AGO = time.time() - 3 * 86400
SLOWEST = 5.5  # seconds from a signal to the end, and some for a machine that is busy
ERROR = re.compile(r"^(?:error|pybuild): .+$", re.MULTILINE)
KILLED = -9
TEMPORARY = re.compile(r"\.part$|^[0-9a-f]{64}\.\d+\.[0-9a-f]{8}$|^(boot|tree[a-z-]*)-[0-9a-f]{16}$")
LOOP = "BaseEventLoop.__del__"  # of asyncio, where an event loop was half made
# Without them nothing can be put away: that is the next build's then.
REMOVERS = ("unlink", "unlinkat", "rmdir", "openat", "rename", "clone", "clone3")


@dataclass
class Result:
    """What came of a point. hit: whether the fault came about; aside: also where nothing of the builder can
    answer for it, such as the files of the interpreter; wrong: what must not be (then err
    is all that was said); litter: what stays."""

    point: str
    hit: bool = False
    aside: bool = False
    fault: str = ""
    status: int | None = 0
    said: str = ""
    err: str = ""
    wrong: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    latency: float = 0.0
    seconds: float = 0.0

    @property
    def kind(self) -> str:
        return self.point.split("/")[1]

    def row(self) -> dict[str, Any]:
        return vars(self)


class Bench:
    """A worker's desk, with which points are tried one after another. The process must adopt orphans."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.desk = Desk(place, folder)
        self._expected: dict[str, list[Picture]] = {}
        self._others = descendants()
        self._before: list[str] = []  # the words before each command
        self._durations: dict[str, float] = {}

    def survey(self, scene: Scene) -> list[tracing.Call]:
        """The calls that the scene's command makes when nothing goes wrong."""
        self.desk.lay(self.place.store(scene))
        words = self.desk.fill(scene.command, self.place.context(scene))
        ended = self.desk.run(tracing.command(self.desk.log, self.desk.command(words)))
        if (ended.status == 0) == scene.fails:
            raise RuntimeError(f"{scene.name}: exit {ended.status} without any fault\n{ended.err}")
        return list(tracing.calls(self.desk.log))

    def measure(self, scene: Scene) -> tuple[int, int]:
        """The pages and files that the command needs beyond those of the store: a little more than enough."""
        with self._disk():
            self.desk.lay(self.place.store(scene))
            before = os.statvfs(self.desk.disk)
            ended = self.desk.run(self.desk.command(self._words(scene)))
            after = os.statvfs(self.desk.disk)
        if (ended.status == 0) == scene.fails:
            raise RuntimeError(f"{scene.name}: exit {ended.status} without any fault\n{ended.err}")
        return before.f_bfree - after.f_bfree + 8, before.f_ffree - after.f_ffree + 8

    def expected(self, scene: Scene) -> list[Picture]:
        """What the scene gives when nothing goes wrong."""
        if scene.name not in self._expected:
            self.desk.lay(self.place.store(scene))
            begun = time.monotonic()
            ended = self.desk.run(self.desk.command(self._words(scene)))
            self._durations[scene.name] = time.monotonic() - begun
            if (ended.status == 0) == scene.fails:
                raise RuntimeError(f"{scene.name}: exit {ended.status} without any fault\n{ended.err}")
            for words in scene.then:
                self.desk.must(self.desk.fill(words, self.place.context(scene)))
            self._expected[scene.name] = self.pictures(scene)
            if wrong := wrong_in(self.desk.store):
                raise RuntimeError(f"{scene.name}: wrong without any fault: {wrong[:3]}")
        return self._expected[scene.name]

    def pictures(self, scene: Scene) -> list[Picture]:
        """The results of a scene as they lie on the desk."""
        times = "RUN" not in scene.dockerfile
        found = [pictures.of_store(self.desk.store, scene.names, times=times)]
        if scene.made:
            scratch = self.desk.folder / "scratch"
            subprocess.run(["rm", "-rf", scratch], check=True)
            found.append(pictures.of_export(self.desk.out / scene.made, scratch, times=times))
        return found

    def attempt(self, scene: Scene, point: Point) -> Result:
        """Try a point."""
        expected = self.expected(scene)
        result = Result(str(point))
        begun = time.monotonic()
        if point.kind == "cut":
            self._attempt_cut(scene, point, expected, result)
        else:
            with self._disk() if point.kind == "full" else contextlib.nullcontext():
                self.desk.lay(self.place.store(scene))
                ended = self._meet(scene, point, result)
                self._note_end(scene, point, ended, result)
                if ended.status == 0 and scene.then == (scene.command,):
                    result.wrong += self._compare(scene, expected, "done in spite of the fault, and")
                result.wrong += self._go_on(scene, expected)
                result.litter += self.litter()
                result.err = ended.err[-3000:] if result.wrong else ""
        result.seconds = round(time.monotonic() - begun, 3)
        return result

    def _note_end(self, scene: Scene, point: Point, ended: Ended, result: Result) -> None:
        """Take down how the command ended, and what it should not have done or left."""
        faults = tracing.injected(self.desk.log)
        result.status, result.fault = ended.status, faults[0] if faults else ""
        ours = [os.fspath(path) for path in (self.desk.disk, self.place.context(scene))]
        result.aside = LOOP in ended.err or not all(tracing.concerns(line, ours) for line in faults)
        natural = point.kind in ("full", "limit", "signal")
        result.hit = ended.status != (1 if scene.fails else 0) if natural else bool(result.fault)
        result.said = (ERROR.findall(ended.err) or [ended.err[-200:]])[-1][:300]
        judge = self._judge_stop if point.kind == "signal" else self._judge_end
        result.wrong += judge(scene, point, ended, result)
        result.wrong += self._left(point, ended)

    def _attempt_cut(self, scene: Scene, point: Point, expected: list[Picture], result: Result) -> None:
        """Try a power cut: the command on a disk, what of it got there, and the commands after that."""
        disk, before, after = self.desk.disk, self.desk.folder / "before.img", self.desk.folder / "after.img"
        power.copy_disk(self._scene_disk(scene), before)
        with power.mounted(before, disk, point.errno):
            self.desk.lay_beside()
            ended = self.desk.run(
                tracing.command(self.desk.log, self.desk.command(self._words(scene)), point.injection)
            )
            power.cut(before, disk, after, point.errno, random.Random(str(point)))
        faults = tracing.injected(self.desk.log)
        result.status, result.fault, result.hit = ended.status, faults[0] if faults else "", bool(faults)
        with power.mounted(after, disk, point.errno):
            self.desk.lay_beside()
            self._before = power.after_boot(self.desk.folder)
            try:
                result.wrong += self._go_on(scene, expected, power.wrong_and_believed)
            finally:
                self._before = []

    def _scene_disk(self, scene: Scene) -> Path:
        """A disk with the store that the scene finds, all of it written."""
        image = self.place.top / "scenes" / scene.name / f"disk-{os.getpid()}.img"
        if not image.exists():
            made = self.desk.folder / "made.img"
            power.make_disk(made)
            with power.mounted(made, self.desk.disk):
                self.desk.lay(self.place.store(scene))
                power.finish_disk(made, self.desk.disk, image)
        return image

    # ── the fault ────────────────────────────────────────────────────────────────────────────────────────

    def _words(self, scene: Scene) -> list[str]:
        return self.desk.fill(scene.command, self.place.context(scene))

    def _meet(self, scene: Scene, point: Point, result: Result) -> Ended:
        command = self.desk.command(self._words(scene))
        if point.kind == "signal":
            return self._interrupt(scene, point, result)
        if point.injection:
            return self.desk.run(tracing.command(self.desk.log, command, point.injection))
        if point.kind == "limit":
            return self.desk.run(["prlimit", f"--nofile={point.number}", *command])
        now = os.statvfs(self.desk.disk)
        pages, inodes = now.f_blocks - now.f_bfree, now.f_files - now.f_ffree
        if point.what == "pages":
            self._resize(pages + point.number, MANY)
        else:
            self._resize(MANY, inodes + point.number)
        ended = self.desk.run(command)
        self._resize(MANY, MANY)
        return ended

    def _interrupt(self, scene: Scene, point: Point, result: Result) -> Ended:
        """A signal at the moment: SIGTERM to the command, others to its process group, as a terminal does."""
        process = self.desk.start(self.desk.command(self._words(scene)))
        time.sleep(self._durations[scene.name] * point.number / 1000)
        number = signal.Signals[f"SIG{point.what}"]
        if process.poll() is None:
            begun = time.monotonic()
            (os.kill if point.what == "TERM" else os.killpg)(process.pid, number)
            ended = self.desk.finish(process)
            result.latency = round(time.monotonic() - begun, 3)
            return ended
        return self.desk.finish(process)

    def _disk(self) -> _Mounted:
        return _Mounted(self.desk.disk)

    def _resize(self, pages: int, inodes: int) -> None:
        options = f"remount,size={pages * PAGE},nr_inodes={inodes}"
        subprocess.run(["mount", "-o", options, self.desk.disk], check=True)

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────

    def _judge_stop(self, scene: Scene, point: Point, ended: Ended, result: Result) -> Iterator[str]:
        number = signal.Signals[f"SIG{point.what}"]
        usual = 1 if scene.fails else 0
        if ended.status is None:
            yield "hung"
        # Before a line of ours the interpreter does as it likes, and the kernel does what it does by default.
        early = "/builder/" not in ended.err
        if ended.status not in (usual, 128 + number) and not (early and ended.status in (-number, 1)):
            yield f"exit status {ended.status}"
        if ended.noise and "/builder/" in ended.err:
            yield f"said {ended.noise!r}"
        if result.latency > SLOWEST:
            yield f"ended only after {result.latency} s"

    def _judge_end(self, scene: Scene, point: Point, ended: Ended, result: Result) -> Iterator[str]:
        killed = point.kind == "kill" and ended.status == KILLED
        if ended.status is None:
            yield "hung"
        if ended.noise and not result.aside:
            yield f"said {ended.noise!r}"
        failed = ended.status not in (0, None) and not killed and not result.aside
        if failed and ended.status != 1:
            yield f"exit status {ended.status}"
        if failed and len(ERROR.findall(ended.err)) != 1:
            yield f"{len(ERROR.findall(ended.err))} errors told"

    def _left(self, point: Point, ended: Ended) -> Iterator[str]:
        """What the command left behind."""
        killed = point.kind == "kill" and ended.status == KILLED
        if left := self._processes():
            yield f"left processes: {left[:3]}"
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        if more := [line for line in mounts if os.fspath(self.desk.store) in line]:
            yield f"left mounts: {more[:3]}"
        if not killed and point.what not in REMOVERS and point.kind != "limit":
            if left := self._names_in(self.desk.store / "ingest"):
                yield f"left in ingest: {left[:3]}"
            if left := self._names_in(self.desk.store / "cgroups"):
                yield f"left cgroups: {left[:3]}"
            if left := self._names_in(self.desk.temporary):
                yield f"left temporary files: {left[:3]}"

    def _processes(self) -> list[str]:
        """What the command started and left, once the dying have had time to die."""
        deadline = time.monotonic() + DYING_SECONDS
        while True:
            reap_orphans()
            left = descendants() - self._others
            if not left or time.monotonic() > deadline:
                return [command_line(pid) for pid in left]
            time.sleep(0.005)

    def _go_on(
        self, scene: Scene, expected: list[Picture], check: Callable[[Path], list[str]] = wrong_in
    ) -> Iterator[str]:
        """The normal commands, with nobody's help."""
        for words in scene.then:
            command = self.desk.command(self.desk.fill(words, self.place.context(scene)))
            ended = self.desk.run([*self._before, *command])
            refused = words[0] in ("tag", "rmi") and "no image" in ended.err  # done, or undone, before
            if ended.status != 0 and not refused:
                yield f"the next {words[0]} failed, exit {ended.status}: {ended.err[-400:]}"
            elif ended.noise:
                yield f"the next {words[0]} said {ended.noise!r}"
        yield from self._compare(scene, expected, "after a normal command")
        for row in check(self.desk.store):
            yield f"in the store: {row}"
        # What a power cut undid counts no more, and is found: dropped without a question, it must be all.
        for check_words in (["fsck", "--repair"], ["fsck"]) if self._before else (["fsck"],):
            checked = self.desk.run([*self._before, *self.desk.command(check_words)])
            if checked.status != 0:
                yield f"{' '.join(check_words)}: exit {checked.status}: {(checked.out + checked.err)[-400:]}"

    def _compare(self, scene: Scene, expected: list[Picture], when: str) -> Iterator[str]:
        try:
            found = self.pictures(scene)
        except (AssertionError, OSError, ValueError, LookupError) as error:
            yield f"{when} the result cannot be read: {type(error).__name__} {error}"[:400]
            return
        for here, there in zip(expected, found, strict=True):
            for row in pictures.differences(here, there):
                yield f"{when} {row}"

    def litter(self) -> list[str]:
        """What is still there that nobody will use, days later, after a whole build and a prune."""
        if not (left := self._unused()):
            return []
        for name in left:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.desk.store / name, (LONG_AGO, LONG_AGO), follow_symlinks=False)
        context = self.desk.folder / "sweeping"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        self.desk.must([*PLAIN, "--no-cache", os.fspath(context)])
        self.desk.must(["prune", "-f"])
        return self._unused()

    def _unused(self) -> list[str]:
        found = [f"ingest/{name}" for name in self._names_in(self.desk.store / "ingest")]
        found += [f"tmp/{name}" for name in self._names_in(self.desk.temporary)]
        found += [f"cgroups/{name}" for name in self._names_in(self.desk.store / "cgroups")]
        claims = self.desk.store / "cache" / "claims"
        found += [f"cache/claims/{name}" for name in self._names_in(claims)]
        for folder, _, names in os.walk(self.desk.store):
            if "/tree" in folder:
                continue
            paths = (Path(folder, name) for name in names if TEMPORARY.search(name))
            found += [os.fspath(path.relative_to(self.desk.store)) for path in paths]
        return found

    def _names_in(self, folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []


class _Mounted:
    """A tmpfs at a folder while the block lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        options = f"size={MANY * PAGE},nr_inodes={MANY}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", self._folder], check=True)

    def __exit__(self, *_about: object) -> None:
        subprocess.run(["umount", "-l", self._folder], check=True)


def read_results(record: Path) -> dict[str, dict[str, Any]]:
    """What a record holds, by point; a line that was cut off is left out."""
    found: dict[str, dict[str, Any]] = {}
    if record.exists():
        for line in record.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            found[row["point"]] = row
    return found
