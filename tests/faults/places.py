"""Where scenes are tried: made once a run, on a tmpfs if there is one, and copied for every point.

    TOP/base/           the base image's context, its layout, an archive to load
    TOP/scenes/NAME/    context, and the store as the scene finds it
    TOP/workers/K/      of one worker: disk/{store,out,tmp} for the point at hand, home, log, err

The context is shared by all points of a scene, so that what the store remembers of its files stays true.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.scenes import EPOCH, FROM_LAYOUT, PLAIN, TOOLS, Scene, Words
from tests.support.machine import CHECKOUT
from tests.support.workshop import NOISE

OLD = 1_600_000_000  # when the context's files were changed last
SECONDS = 60  # after which a command hangs
BASE = "FROM scratch\nCOPY bin /bin\nENV PATH=/bin\n"


@dataclass(frozen=True)
class Ended:
    """How a command ended. status: as `subprocess` has it, None where it had to be stopped."""

    status: int | None
    out: str
    err: str

    @property
    def noise(self) -> str:
        """What no command may say, if it did."""
        found = NOISE.search(self.err)
        return found[0] if found else ""


def pick_top() -> str:
    """A folder for trials: on a tmpfs if that can be written to."""
    shm = "/dev/shm"
    return shm if os.access(shm, os.W_OK) else os.environ.get("TMPDIR", "/tmp")


class Place:
    """Everything below one folder. registry: a host that serves `base:1`, or ""."""

    def __init__(self, top: Path, registry: str = "") -> None:
        self.top = top
        self.registry = registry
        self.layout = top / "base" / "layout"
        self.archive = top / "base" / "archive.tar"
        self.seed = top / "base" / "store"

    def make_base(self) -> None:
        """The base image in a store, as a layout, and an archive of an image of another name."""
        context = self.top / "base" / "context"
        tools = context / "bin"
        tools.mkdir(parents=True)
        busybox = shutil.which("busybox")
        if busybox is None:
            raise RuntimeError("busybox is not installed (busybox-static)")
        shutil.copy(busybox, tools / "busybox")
        for name in TOOLS:
            (tools / name).symlink_to("busybox")
        (context / "Dockerfile").write_text(BASE)
        (context / "other").write_text("FROM base\nCOPY Dockerfile /loaded\n")
        _age(context)
        desk = Desk(self, self.top / "base" / "desk")
        for words in (
            (*PLAIN, "-t", "base", os.fspath(context)),
            (*PLAIN, "-t", "base:1", "-o", f"type=oci,tar=false,dest={self.layout}", os.fspath(context)),
            (*PLAIN, "-t", "loaded:1", "-f", os.fspath(context / "other"), *FROM_LAYOUT,
             "-o", f"type=docker,dest={self.archive}", os.fspath(context)),
        ):  # fmt: skip
            desk.must(desk.fill(words, context))
        desk.store.rename(self.seed)

    def context(self, scene: Scene) -> Path:
        return self.top / "scenes" / scene.name / "context"

    def store(self, scene: Scene) -> Path:
        return self.top / "scenes" / scene.name / "store"

    def make_scene(self, scene: Scene) -> None:
        """Its context, and the store that it finds."""
        context = self.context(scene)
        for name, text in {"Dockerfile": scene.dockerfile, **scene.files}.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        _age(context)
        desk = Desk(self, self.top / "scenes" / scene.name / "desk")
        if not scene.empty:
            copy_tree(self.seed, desk.store)
        for words in scene.before:
            desk.must(desk.fill(words, context))
        if desk.store.exists() and not scene.bare:
            desk.store.rename(self.store(scene))
        for name, text in scene.changed.items():
            (context / name).write_text(text)
        _age(context, OLD + 60)


class Desk:
    """Where commands are run: a store, a folder for their output and one for temporary files."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.disk = folder / "disk"
        self.store, self.out, self.temporary = (self.disk / name for name in ("store", "out", "tmp"))
        self.log, self.err = folder / "log", folder / "err"
        (folder / "home").mkdir(parents=True, exist_ok=True)
        self.disk.mkdir(exist_ok=True)
        self.lay(None)

    def lay(self, store: Path | None) -> None:
        """Begin anew with a copy of that store, or with none."""
        subprocess.run(["rm", "-rf", self.store], check=True)
        if store is not None and store.exists():
            copy_tree(store, self.store)
        self.lay_beside()

    def lay_beside(self) -> None:
        """Begin anew with the store that is there."""
        for path in (self.out, self.temporary):
            subprocess.run(["rm", "-rf", path], check=True)
            path.mkdir()
        self.log.unlink(missing_ok=True)

    def fill(self, words: Words, context: Path) -> list[str]:
        """The words with the places of this desk in them."""
        values = {
            "context": os.fspath(context), "out": os.fspath(self.out), "layout": os.fspath(self.place.layout),
            "archive": os.fspath(self.place.archive), "registry": self.place.registry,
            "kept": os.fspath(context.parent / "kept"),
        }  # fmt: skip
        return [word.format_map(values) if "{" in word else word for word in words]

    def command(self, words: Sequence[str]) -> list[str]:
        return [sys.executable, "-P", "-m", "builder", *words]

    def environment(self) -> dict[str, str]:
        own = {
            "PYBUILD_ROOT": os.fspath(self.store), "TMPDIR": os.fspath(self.temporary),
            "HOME": os.fspath(self.folder / "home"), "XDG_CONFIG_HOME": os.fspath(self.folder / "home"),
            "PYTHONPATH": os.fspath(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", **EPOCH,
        }  # fmt: skip
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **own}

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command with its output going to files, so that nobody has to read it."""
        with self.err.open("wb") as err, (self.folder / "said").open("wb") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder,
                env=self.environment(), start_new_session=True,
            )  # fmt: skip

    def finish(self, process: subprocess.Popen[bytes], seconds: float = SECONDS) -> Ended:
        """Wait for its end; one that hangs is killed."""
        status: int | None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            status = None
        said = (self.folder / "said").read_text(errors="replace")
        return Ended(status, said, self.err.read_text(errors="replace"))

    def run(self, command: Sequence[str]) -> Ended:
        return self.finish(self.start(command))

    def must(self, words: Sequence[str]) -> Ended:
        """Run a command that makes things ready. Raises RuntimeError where it does not go well."""
        ended = self.run(self.command(words))
        if ended.status != 0:
            raise RuntimeError(f"{' '.join(words)}: exit {ended.status}\n{ended.err}")
        return ended


def copy_tree(source: Path, target: Path) -> None:
    """A copy with all that makes it what it is: owners, times, hard links, xattrs."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def _age(folder: Path, when: int = OLD) -> None:
    """Give all in a folder the same old time."""
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.utime(os.path.join(top, name), (when, when), follow_symlinks=False)
    os.utime(folder, (when, when))
