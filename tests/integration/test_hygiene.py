"""Builds that end in every way, many at a time on one store: nothing of them is left, nothing is wrong."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.machine import needs, needs_root
from tests.support.namespaces import has_user_namespaces
from tests.support.storecheck import wrong_in
from tests.support.workshop import NOISE, Workshop

pytestmark = [pytest.mark.root, needs_root(), needs("busybox", "ssh-keygen")]

BUILDS = 200 if os.environ.get("CI") else 48
AT_A_TIME = 8
SECRET = "a-secret-that-is-written-nowhere"
DOCKERFILE = """
FROM busybox AS one
ARG N
RUN --mount=type=cache,target=/c,sharing=locked --mount=type=tmpfs,target=/t \
    --mount=type=secret,id=s,target=/t/s \
    echo $N >> /c/log && cp /t/s /t/copy && mkdir -p /d/e && echo $N > /d/n && ln /d/n /d/e/m \
    && chown 5:6 /d/n
RUN --mount=type=cache,target=/p,sharing=private,uid=3,gid=4 --mount=target=/in,rw --mount=type=ssh \
    test -S $SSH_AUTH_SOCK && touch /in/x /p/$N && rm -r /d/e && ln -s n /d/l && (sleep 4741.5 &) \
    && sleep 0.$(($N % 4))
FROM busybox AS two
ARG N
RUN --mount=type=cache,target=/c touch /c/$N && mkfifo /fifo && rm -r /tmp \
    && for i in $(seq 40); do echo > /f$i; done
FROM one
COPY --from=two /f1 /fifo /two/
COPY Dockerfile /copied
ARG WAY
RUN case $WAY in \
    fail) touch /half; (sleep 4741.5 &); exit 3;; \
    slow) trap '' TERM INT HUP; (setsid sleep 4741.5 &); touch /half; sleep 4741.5;; \
    large) cat /dev/zero | tail;; \
    *) echo $WAY > /way;; esac
"""
WAYS = {  # what ends a build: how often, the WAY of its last step, flags
    "success": (4, "well", ()),
    "failure": (2, "fail", ()),
    "timeout": (2, "slow", ("--step-timeout=700ms",)),
    "cancelled": (4, "slow", ()),
    "killed": (6, "slow", ()),
    "killed early": (2, "well", ()),
}
# Python's own words for an interrupt that comes while it starts, before a line of ours.
BEFORE_ALL_ELSE = ("Could not import runpy module", "Fatal Python error: init_")
# One that comes before a build can be cancelled may come between `open` and its `with`, as in importlib.
UNCLOSED = re.compile(
    r"^.+:\d+: ResourceWarning: unclosed file <_io\..*\n(  .*\n)?(ResourceWarning: Enable tracemalloc.*\n)?",
    re.MULTILINE,
)
STATUS = {"success": {0}, "failure": {1}, "timeout": {1}, "cancelled": {129, 130, 143, -1, -2, -15}}


@pytest.fixture
def shop(workshop: Workshop) -> Workshop:
    workshop.dockerfile(DOCKERFILE)
    (workshop.folder / "secret").write_text(SECRET)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", workshop.folder / "key"], check=True)
    return workshop


class Many:
    """Builds in a shop, as chance has it. failed: what they should not have done."""

    def __init__(self, shop: Workshop, *, limits: bool) -> None:
        self.shop = shop
        self.limits = limits
        self.rungs = ["root", "userns", "single-uid"] if has_user_namespaces() else ["root"]
        self.failed: list[str] = []
        self.ends: Counter[str] = Counter()

    def build(self, number: int) -> None:
        chance = random.Random(number)
        way = chance.choices([*WAYS], [weight for weight, _, _ in WAYS.values()])[0]
        _, last, flags = WAYS[way]
        if self.limits and way in ("failure", "killed") and chance.random() < 0.5:
            flags, last = (*flags, "--memory=40m", "--pids-limit=200"), "large" if way == "failure" else last
        rung = chance.choices(self.rungs, [6, 1, 1][: len(self.rungs)])[0]
        process = self.shop.start(
            f"--build-arg=N={number // 2}", f"--build-arg=WAY={last}", f"--isolation={rung}", *flags,
            f"--secret=id=s,src={self.shop.folder}/secret", f"--ssh=default={self.shop.folder}/key",
            "-t", f"made:{number % 5}", self.shop.context,
        )  # fmt: skip
        if way.startswith(("cancelled", "killed")):
            self._end(process, way, chance)
        _, err = process.communicate(timeout=300)
        self._judge(f"build {number}, {way} on {rung}", way, process.returncode, err)

    def _end(self, process: subprocess.Popen[str], way: str, chance: random.Random) -> None:
        seconds = chance.random() * (0.5 if way == "killed early" else 3)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            stop = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
            process.send_signal(chance.choice(stop) if way == "cancelled" else signal.SIGKILL)

    def _judge(self, what: str, way: str, status: int, err: str) -> None:
        self.ends[way] += 1
        if way == "cancelled" and any(line.startswith(BEFORE_ALL_ELSE) for line in err.splitlines()):
            return
        if way == "cancelled" and "#1 " not in err:
            err = UNCLOSED.sub("", err)
        if status not in STATUS.get(way, {-signal.SIGKILL, 0}):
            self.failed.append(f"{what} ended with {status}:\n{err[-1500:]}")
        if SECRET in err or (status >= 0 and NOISE.search(err)):  # a signal may come before all else
            self.failed.append(f"{what} said:\n{err[-3000:]}")


@contextmanager
def watched(folder: Path, note: Callable[[Path], None]) -> Iterator[None]:
    """Call `note` with every file that appears in a folder meanwhile, more than once."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            with suppress(FileNotFoundError):  # builds make the folder, and remove it where it is empty
                for name in os.listdir(folder):
                    note(folder / name)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def users_of(folder: Path) -> list[str]:
    """The processes of this machine in whose mount namespace something of the folder is mounted."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "mountinfo").read_text(errors="replace")
            if str(folder) in text:
                found.append(f"{path.name} {(path / 'comm').read_text().strip()}")
        except (OSError, ProcessLookupError):
            continue
    return found


def kept_namespaces() -> list[str]:
    """Namespaces that a mount of this one keeps alive."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - nsfs " in line]


def test_nothing_is_left_of_builds_that_end_in_every_way(shop: Workshop) -> None:
    shop.check_usable()
    groups: set[str] = set()
    before = kept_namespaces()
    limits = shop.run("--memory=64m", shop.context, "--target=two", "--build-arg=N=0").status == 0
    many = Many(shop, limits=limits)

    def note(path: Path) -> None:
        try:
            groups.update(path.read_text().split())
        except FileNotFoundError:
            return

    with watched(shop.root / "cgroups", note), ThreadPoolExecutor(AT_A_TIME) as pool:
        for task in [pool.submit(many.build, number) for number in range(BUILDS)]:
            task.result()

    assert many.failed == [], "\n\n".join(many.failed[:3])
    assert set(many.ends) == set(WAYS)
    assert shop.processes() == []
    assert users_of(shop.folder) == []
    assert kept_namespaces() == before
    shop.check_usable("--no-cache", *(["--memory=64m"] if limits else []))  # it cleans up after all of them
    assert bool(groups) == limits
    assert [group for group in groups if os.path.exists(group)] == []
    assert not (shop.root / "cgroups").exists()
    assert wrong_in(shop.root) == []
    assert secrets_in(shop.root) == []


def secrets_in(root: Path) -> list[str]:
    """Files of the store that hold the secret."""
    found = []
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    if SECRET.encode() in file.read():
                        found.append(path)
    return found
