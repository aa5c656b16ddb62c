"""SIGKILL at any moment: nothing goes on, and the next build works on the store as if nothing had been."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.machine import needs_root
from tests.support.processes import argv, descendants
from tests.support.workshop import Workshop, find_process

pytestmark = [pytest.mark.root, needs_root()]

POINTS = 14
DOCKERFILE = """
FROM base AS one
COPY files /files
RUN cat /files/* > /all; for i in $(seq 150); do echo $i > /n$i; done
FROM base AS two
RUN --mount=type=cache,target=/cache mkdir -p /made/deep; echo two > /made/deep/it; rm -r /files
FROM base
WORKDIR /srv
COPY --from=one /all /srv/
COPY --from=two /made /srv/made
RUN rm /bin/vi; ln /srv/all /srv/again; chmod 700 /srv/made
"""
BASE = "FROM busybox\nRUN mkdir /files; for i in $(seq 60); do echo $i > /files/b$i; done\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, busybox_seed: Path) -> Path:
    """A layout with a base of two layers."""
    shop = Workshop(tmp_path_factory.mktemp("base"), busybox_seed)
    layout = shop.folder / "layout"
    shop.build("-o", f"type=oci,tar=false,dest={layout}", dockerfile=BASE)
    return layout


class Crashing:
    """Builds of one Dockerfile from an empty store, that may be killed."""

    def __init__(self, shop: Workshop, base: Path) -> None:
        self.shop = shop
        self.base = base
        shop.dockerfile(DOCKERFILE)
        for number in range(80):
            shop.write(f"files/{number}", f"{number}\n" * 300)
        self.words = [
            "-t", "made:1", "--build-context", f"base=oci-layout://{base}", "-o",
            "type=image,name=made:1,rewrite-timestamp=true", shop.context,
        ]  # fmt: skip
        self.environment = {"SOURCE_DATE_EPOCH": "1700000000"}

    def build(self) -> str:
        """A build to its end; its digest, which is that of all builds of this."""
        outcome = self.shop.run(*self.words, env=self.environment)
        assert outcome.status == 0, outcome.err
        assert self.shop.names()["made:1"] == outcome.digest
        return outcome.digest

    def kill_after(self, seconds: float) -> bool:
        """Kill a build after that time. Whether it was still at work."""
        process = self.shop.start(*self.words, env=self.environment)
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=60)  # till nobody has its output any more
        assert self.shop.processes() == []
        assert self.shop.mounts() == []
        return process.returncode == -signal.SIGKILL

    def check_store(self) -> None:
        """Every blob is what its name says, and after one more build nothing unfinished lies around."""
        for blob in (self.shop.root / "blobs/sha256").iterdir():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        self.shop.check_usable("--build-context", f"busybox=oci-layout://{self.base}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[str, float]:
    """What the build gives when nobody kills it, and how long that takes."""
    crashing = Crashing(Workshop(tmp_path_factory.mktemp("whole"), None), base)
    begun = time.monotonic()
    digest = crashing.build()
    return digest, time.monotonic() - begun


@pytest.mark.parametrize("point", range(POINTS))
def test_a_build_that_is_killed_leaves_a_store_that_works(
    empty_workshop: Workshop, base: Path, busybox_seed: Path, whole: tuple[str, float], point: int
) -> None:
    digest, seconds = whole
    crashing = Crashing(empty_workshop, base)
    if point % 2:  # also with a store that has something to lose
        shutil.copytree(busybox_seed, empty_workshop.root, symlinks=True)

    crashing.kill_after(seconds * point / POINTS)

    assert crashing.build() == digest
    crashing.check_store()


def test_a_build_that_is_killed_again_and_again_comes_to_its_end(
    empty_workshop: Workshop, base: Path, whole: tuple[str, float]
) -> None:
    digest, seconds = whole
    crashing = Crashing(empty_workshop, base)
    chance = random.Random(2)

    for _ in range(8):
        crashing.kill_after(seconds * chance.random())

    assert crashing.build() == digest
    crashing.check_store()


def test_killing_the_builder_kills_all_that_a_step_started(workshop: Workshop) -> None:
    workshop.dockerfile(
        "FROM busybox AS one\nRUN trap '' INT TERM HUP; (setsid sleep 4718.5 &); sleep 4718.5\n"
        "FROM busybox\nRUN (sleep 4718.5 & sleep 4718.5 & wait) & wait\nCOPY --from=one / /one\n"
    )
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: len(sleepers()) >= 4)

    process.kill()
    process.communicate()

    assert workshop.processes() == []
    assert workshop.mounts() == []
    assert sleepers() == []
    workshop.check_usable()


def sleepers() -> list[int]:
    return [pid for pid in descendants() if argv(pid) == [b"sleep", b"4718.5"]]


def test_the_lock_of_a_killed_build_is_free(workshop: Workshop) -> None:
    """Its claim on a key and its hold of a cache die with it."""
    line = "RUN --mount=type=cache,target=/c,sharing=locked test -e /c/go || sleep 4719.5"
    workshop.dockerfile(f"FROM busybox\n{line}\n")
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4719.5"))
    waiting = workshop.start(workshop.context)
    workshop.wait_until(lambda: '"waiting"' in records(workshop))
    (next((workshop.root / "cache/mounts").glob("[0-9a-f]" * 32)) / "go").touch()

    process.kill()
    process.communicate()
    _, err = waiting.communicate(timeout=60)

    assert waiting.returncode == 0, err
    workshop.check_usable()


def records(workshop: Workshop) -> str:
    return "".join(path.read_text() for path in workshop.root.glob("builds/*/events.jsonl"))


def test_records_of_killed_builds_end_with_a_whole_line_or_in_the_middle_of_one(workshop: Workshop) -> None:
    """A reader of records has to cope with either; the builder itself does not mind them."""
    workshop.dockerfile("FROM busybox\nRUN sleep 4720.5\n")
    process = workshop.start(workshop.context)
    workshop.wait_until(lambda: find_process("sleep 4720.5"))
    process.kill()
    process.communicate()
    latest = max(workshop.root.glob("builds/*/events.jsonl"), key=os.path.getmtime)
    latest.write_bytes(latest.read_bytes()[:-7])

    workshop.check_usable()
