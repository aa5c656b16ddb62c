"""Damage to files of a store, one at a time: what builds make of it, and whether `fsck` finds and mends it.

    python -m tests.support.corruptions --count 500 --seed 1 SEED_STORE FOLDER

A store with all kinds of files is made once. For each trial it is copied, a file of it (or a symlink) is
flipped, cut or removed, and then, each on a copy of its own: builds are made, which must give the right
image, or one that nobody can read (a digest is wrong), or an error of one clear message; and `fsck` must find
what it can find, repair it, and leave a store on which the builds give the right images.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.oci.names import COPY, _copy_line, is_copied
from tests.support.images import read_image
from tests.support.machine import CHECKOUT
from tests.support.workshop import NO_INTERNET

DOCKERFILE = """\
FROM busybox AS made
RUN --mount=type=cache,target=/c,id=things echo kept > /c/x; mkdir /out; echo out > /out/a; ln /out/a /out/b
COPY first /first
FROM base
COPY --chmod=640 files /files
RUN cat /files/* /base > /all; rm /bin/vi; chmod 700 /files
WORKDIR /srv
COPY --from=made /out /srv/out
RUN echo end > /end
CMD ["cat", "/all"]
"""
BASE = "FROM busybox\nRUN echo base > /base; mkdir -p /deep/er; ln -s er /deep/link\n"
BUILDS = ("as before", "changed")
# Kinds of files whose damage nobody minds, and nobody looks for: no bytes in them are believed.
UNPROVEN = ("locks", "ingest", "cache/claims", "cache/mounts", "cache/parts", "cache/names", "builds")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Damage:
    """What was done to which file: its path below the store, its kind, flip, cut, remove or retarget."""

    path: str
    kind: str
    done: str
    at: int = 0

    def __str__(self) -> str:
        return f"{self.done} {self.path} at {self.at}"


class Trials:
    """Trials in `folder`; `seed` is a store that has busybox:latest."""

    def __init__(self, folder: Path, seed: Path) -> None:
        self.folder = folder
        self.whole = folder / "whole"
        self.context = folder / "context"
        shutil.copytree(seed, self.whole, symlinks=True)
        self.base = set(os.listdir(seed / "blobs/sha256"))  # of an image that no registry has
        self._prepare()
        self.right = {build: self.images(self.whole, build) for build in BUILDS}

    def _prepare(self) -> None:
        layout, base = self.folder / "layout", self.folder / "base"
        base.mkdir()
        (base / "Dockerfile").write_text(BASE)
        other = self.folder / "other"
        shutil.copytree(self.whole, other, symlinks=True)
        self._good(other, "build", "-t", "base:1", "-o", f"type=oci,tar=false,dest={layout}", base)
        (self.context / "files").mkdir(parents=True)
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        (self.context / "first").write_text("first")
        for number in range(5):
            (self.context / "files" / str(number)).write_text(f"{number}\n" * 200)
        failing = self.folder / "failing"
        failing.mkdir()
        (failing / "Dockerfile").write_text("FROM busybox\nRUN echo kept > /kept; false\n")
        for words in (self.words("as before", self.context), self.words("as before", self.context)):
            self._good(self.whole, *words)
        self.run(self.whole, "build", failing)
        self._good(self.whole, "build", failing.parent / "base")  # an image without a name

    def _good(self, store: Path, *words: str | Path) -> None:
        outcome = self.run(store, *words)
        assert outcome.status == 0, outcome.err

    def words(self, build: str, context: Path) -> list[str | Path]:
        """The command of a build; one that is "changed" has another file."""
        number = BUILDS.index(build)
        base = f"base=oci-layout://{self.folder / 'layout'}"
        return ["build", "-t", f"app:{number}", "--build-context", base, context]

    def build(self, store: Path, build: str) -> Outcome:
        """One of the builds."""
        context = self.context
        if build == "changed":
            context = self.folder / "changed"
            if not context.exists():
                shutil.copytree(self.context, context)
                (context / "files" / "2").write_text("changed")
        return self.run(store, *self.words(build, context))

    def images(self, store: Path, build: str) -> Any:
        """What a build gives from a copy of this store."""
        with self.copied(store) as copy:
            outcome = self.build(copy, build)
            assert outcome.status == 0, outcome.err
            return self.image(copy, build)

    def image(self, store: Path, build: str) -> Any:
        """What of a build's image has to be the same always; raises where its digests are wrong."""
        image = read_image(store, f"app:{BUILDS.index(build)}")
        tree = {
            path: (m.kind, m.mode, m.uid, m.gid, m.data, m.link, m.device) for path, m in image.tree().items()
        }
        history = [row.get("created_by") for row in image.config["history"]]
        return tree, image.run, history, image.config["architecture"], image.config["os"]

    def copied(self, store: Path) -> Copied:
        """A copy of a store, for a block."""
        return Copied(store, self.folder / "copies")

    def run(self, store: Path, *words: str | Path) -> Outcome:
        """The command, on a store."""
        done = subprocess.run(
            [sys.executable, "-m", "builder", *map(os.fspath, words)],
            env={**os.environ, **NO_INTERNET, "PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(store),
                 "PYBUILD_CONFIG": ""},
            capture_output=True, text=True, errors="replace", check=False, cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def run_here(self, store: Path, *words: str | Path) -> Outcome:
        """The same in a fork of this process, which has the builder's modules loaded: in a third of the time.
        Only for a process with a single thread."""
        out, err = self.folder / "stdout", self.folder / "stderr"
        with open(out, "wb") as one, open(err, "wb") as two:
            pid = os.fork()
            if pid == 0:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(one.fileno(), 1)
                os.dup2(two.fileno(), 2)
                os.chdir(self.folder)
                os.environ.update({**NO_INTERNET, "PYBUILD_ROOT": str(store), "PYBUILD_CONFIG": ""})
                status = 1
                try:
                    from builder.cli import main as command

                    status = command([os.fspath(word) for word in words])
                    sys.stdout.flush()
                finally:
                    os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Outcome(status, out.read_text(errors="replace"), err.read_text(errors="replace"))

    # ── one trial ────────────────────────────────────────────────────────────────────────────────────────

    def try_one(self, chance: random.Random) -> tuple[Damage, str]:
        """Damage something; what came of it, in a word. AssertionError where that must not be."""
        with self.copied(self.whole) as damaged:
            damage = corrupt(damaged, chance)
            words = [self._after_builds(damaged, damage)]
            words.append(self._after_repair(damaged, damage))
        return damage, ", ".join(words)

    def _after_builds(self, damaged: Path, damage: Damage) -> str:
        found = Counter[str]()
        with self.copied(damaged) as store:
            for build in BUILDS:
                found[self._judged(store, build, self.build(store, build), damage)] += 1
        return " and ".join(sorted(found))

    def _judged(self, store: Path, build: str, outcome: Outcome, damage: Damage) -> str:
        if outcome.status:
            assert outcome.status == 1, outcome
            assert "pybuild itself went wrong" not in outcome.err, outcome.err
            assert "Traceback" not in outcome.err, outcome.err
            return "refused"
        try:
            image = self.image(store, build)
        except (AssertionError, OSError, ValueError, KeyError, EOFError):
            # Nobody can take it for whole: a digest, a size or a document tells.
            return "unreadable"
        if image != self.right[build]:
            # The bytes of a folder that steps run on are not hashed each time: fsck finds them, below.
            assert is_tree(damage.path), f"{damage}: a wrong image"
            return "as the folder is"
        return "right"

    def _after_repair(self, damaged: Path, damage: Damage) -> str:
        with self.copied(damaged) as store:
            told = self.run(store, "fsck", "--format=json")
            assert told.status in (0, 1), told
            found = [json.loads(line) for line in told.out.splitlines()]
            assert found or is_harmless(store, damage), f"{damage}: fsck finds nothing"
            mended = self.run(store, "fsck", "--repair")
            assert mended.status == 0, f"{damage}: {mended}"
            again = self.run(store, "fsck")
            assert again.status == 0, f"{damage}: {again}"
            for build in BUILDS:
                outcome = self.build(store, build)
                if outcome.status and os.path.basename(damage.path) in self.base:
                    assert "image busybox:latest: registry docker.io" in outcome.err, outcome.err
                    return "found, and its image has to be brought again"
                assert outcome.status == 0, f"{damage}: {outcome.err}"
                image = self.image(store, build)
                assert image == self.right[build] or (not found and is_tree(damage.path)), f"{damage}: wrong"
        return "found" if found else "nothing to find"


class Copied:
    """A copy of a store that is gone after its block: what the store knows of its inodes is so there too."""

    def __init__(self, store: Path, top: Path) -> None:
        self.store = store
        top.mkdir(exist_ok=True)
        self.path = top / os.urandom(6).hex()

    def __enter__(self) -> Path:
        subprocess.run(["cp", "-a", self.store, self.path], check=True)
        if is_copied(os.fspath(self.store)):
            kept, inode = self.path / COPY, (self.path / "index.json").stat().st_ino
            data = kept.read_bytes().partition(b"\n")[0]
            kept.write_bytes(data + b"\n" + _copy_line(data, inode))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


# ── damage ───────────────────────────────────────────────────────────────────────────────────────────────


def corrupt(store: Path, chance: random.Random) -> Damage:
    """Damage one file: a kind is drawn first, so that the many of one kind do not hide the others."""
    kinds: dict[str, list[str]] = {}
    for path in files_of(store):
        kinds.setdefault(kind_of(path), []).append(path)
    kind = chance.choice(sorted(kinds))
    path = chance.choice(sorted(kinds[kind]))
    file = store / path
    if file.is_symlink():
        done = chance.choice(("remove", "retarget"))
        text = os.readlink(file)
        file.unlink()
        if done == "retarget":
            at = chance.randrange(len(text))
            file.symlink_to(text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :])
        return Damage(path, kind, done)
    data = file.read_bytes()
    done = chance.choice(("flip", "cut", "remove") if data else ("remove",))
    at = chance.randrange(len(data)) if data else 0
    if done == "remove":
        file.unlink()
    else:
        mode = file.stat().st_mode
        times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        file.chmod(0o600)
        flipped = bytes([data[at] ^ (1 << chance.randrange(8))])
        with open(file, "r+b") as out:  # in place: the same inode, as a disk would do it
            if done == "flip":
                out.seek(at)
                out.write(flipped)
            else:
                out.truncate(at)
        file.chmod(mode & 0o7777)
        os.utime(file, ns=times)
    return Damage(path, kind, done, at)


def files_of(store: Path) -> Iterator[str]:
    """The paths, below the store, of all files and symlinks."""
    for folder, folders, names in os.walk(store):
        for name in (*names, *folders):
            path = os.path.join(folder, name)
            if os.path.islink(path) or (name in names and os.path.isfile(path)):
                yield os.path.relpath(path, store)


def kind_of(path: str) -> str:
    """What kind of file it is: the fixed words of its path."""
    parts = path.split("/")
    if parts[0] == "layers":
        return "/".join((parts[0], *parts[2:3]))
    if parts[0] == "builds":
        return "builds/cached" if parts[1] == "cached" else "/".join((parts[0], *parts[2:]))
    return "/".join(parts[:2]) if parts[0] in ("cache", "blobs") else parts[0]


def is_tree(path: str) -> bool:
    """Whether it is a file that steps see."""
    parts = path.split("/")
    return parts[0] == "layers" and len(parts) > 3


def is_harmless(store: Path, damage: Damage) -> bool:
    """Whether nothing can be found: nobody believes it, or what is gone is as if it had never been."""
    if damage.path.startswith(UNPROVEN) and not damage.path.endswith("failed.json"):
        return True
    if damage.kind in ("cache/stat", "layers/digests", "layers/tree-boot", "layers/base", "cache/room"):
        return damage.done != "flip"
    if damage.done == "remove" and damage.path.startswith(("cache/", "builds/")):
        return True
    if damage.done in ("remove", "cut") and damage.kind in ("layers/blob.json", "blobs/sha256"):
        return True
    # Of a folder without a blob nobody knows the digests of files that nobody asked for.
    return is_tree(damage.path) or damage.done == "retarget"


def main() -> int:
    """Many trials, of which every tenth is told, and at the end how many came to what."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for module in (
        "build",
        "warm",
        "commands.build",
        "commands.drive",
        "commands.fsck",
        "fsck.check",
        "output",
    ):
        importlib.import_module(f"builder.{module}")
    Trials.run = Trials.run_here  # type: ignore[method-assign]
    trials, sums, failed = Trials(given.folder, given.store), Counter[str](), 0
    for number in range(given.first, given.first + given.count):
        chance = random.Random(f"{given.seed}:{number}")
        try:
            damage, came = trials.try_one(chance)
        except AssertionError as error:
            failed += 1
            print(f"FAILED {given.seed}:{number}: {str(error)[:2000]}", flush=True)
            continue
        sums[f"{damage.kind}: {came}"] += 1
        if number % 10 == 0:
            print(f"{number}: {damage}: {came}", flush=True)
    for came, count in sorted(sums.items()):
        print(f"{count:5} {came}")
    print(f"{given.count} corruptions, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
