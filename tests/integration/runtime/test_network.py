"""Networks of steps' own: what a helper connects, what it must not reach, and one that does not come up."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from builder import libc
from builder.errors import SandboxError
from builder.isolation import network
from tests.support.contexts import lay
from tests.support.machine import Pybuild, needs_root, run
from tests.support.namespaces import has_user_namespaces
from tests.support.processes import command_line, descendants
from tests.support.rootless import Rootless
from tests.support.workshop import adopt_orphans

pytestmark = [pytest.mark.root, needs_root()]

T = TypeVar("T")

HELPERS = [
    pytest.param(name, marks=pytest.mark.skipif(
        shutil.which(name) is None or not os.path.exists(network.TUN), reason=f"{name} cannot run here"
    ))
    for name in ("pasta", "slirp4netns")
]  # fmt: skip
OPEN_TUN = "mknod -m 666 $FOLDER/tun c 10 200; mount --bind $FOLDER/tun /dev/net/tun"
CLOSED_TUN = "mknod -m 600 $FOLDER/tun c 10 200; mount --bind $FOLDER/tun /dev/net/tun"
LOOK = """
FROM busybox
RUN ip -4 route; cat /etc/resolv.conf
"""


@pytest.fixture
def user(busybox_layout: Path) -> Iterator[Rootless]:
    with closing(Rootless()) as user:
        run(["cp", "-a", busybox_layout, user.folder / "busybox"])
        yield user


def base(user: Rootless) -> tuple[str, str]:
    return "--build-context", f"busybox=oci-layout://{user.folder}/busybox:1"


def helpers_left(before: set[int]) -> list[str]:
    deadline = time.monotonic() + 30
    while (left := descendants() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [command_line(pid) for pid in left]


def check_connected(text: str, helper: str) -> None:
    said = re.findall(r"^#\d+ \d+\.\d+ (.*)$", text, re.MULTILINE)
    assert any(line.startswith("default via ") for line in said), text
    assert any(line.startswith("blackhole 169.254.169.254") for line in said), text
    assert f"nameserver {network.NAMESERVERS[helper]}" in said


@pytest.mark.parametrize("helper", HELPERS)
def test_a_step_of_root_has_a_network_of_its_own(pybuild: Pybuild, context: Path, helper: str) -> None:
    adopt_orphans()
    before = descendants()

    done = pybuild.build(lay(context, LOOK), "--network", helper, "--require-isolation=full")

    check_connected(done.stderr, helper)
    assert helpers_left(before) == []


@pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
@pytest.mark.parametrize("rung", ["userns", "single-uid"])
@pytest.mark.parametrize("helper", HELPERS)
def test_a_step_of_a_plain_user_has_one_too(user: Rootless, helper: str, rung: str) -> None:
    lay(user.context, LOOK)
    words = ["build", "--progress=plain", "--network", helper, "--isolation", rung, *base(user)]

    done = user.run(*words, user.context, conditions=[OPEN_TUN])

    check_connected(done.stderr, helper)


@pytest.mark.skipif(not has_user_namespaces(), reason="user namespaces are refused here")
@pytest.mark.parametrize("helper", HELPERS)
def test_a_device_that_the_user_may_not_open_is_told_at_once(user: Rootless, helper: str) -> None:
    lay(user.context, LOOK)

    done = user.run(
        "build", "--network", helper, *base(user), user.context, conditions=[CLOSED_TUN], check=False
    )

    assert done.returncode == 1
    assert f"error: --network {helper}: /dev/net/tun cannot be opened by this user" in done.stderr
    assert "hint: as root: chmod 666 /dev/net/tun" in done.stderr


@pytest.mark.parametrize("helper", HELPERS)
def test_servers_on_the_host_s_loopback_are_not_reached(helper: str) -> None:
    made = network.StepNetwork(helper)
    try:
        made.start()
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            port = server.getsockname()[1]
            reached = call_inside(made.path, lambda: [place for place in places() if connects(place, port)])
        outside = call_inside(made.path, lambda: connects("169.254.169.254", 80))
    finally:
        made.close()

    assert reached == []
    assert not outside


def places() -> list[str]:
    """What may stand for the host: the step's own loopback, slirp4netns's names for it, the way out."""
    rows = [line.split() for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]]
    (way_out,) = {row[2] for row in rows if row[1] == "00000000" and row[2] != "00000000"}
    gateway = socket.inet_ntoa(bytes.fromhex(way_out)[::-1])
    return ["127.0.0.1", "10.0.2.2", "10.0.2.3", gateway]


def connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def call_inside(path: str, function: Callable[[], T]) -> T:
    """Call a function in a thread of a network namespace."""
    with ThreadPoolExecutor(1, initializer=enter, initargs=(path,)) as pool:
        return pool.submit(function).result()


def enter(path: str) -> None:
    with open(path) as namespace:
        libc.setns(namespace.fileno(), libc.CLONE_NEWNET)


def test_steps_that_ask_for_no_network_get_none(pybuild: Pybuild, context: Path) -> None:
    if shutil.which("pasta") is None or not os.path.exists(network.TUN):
        pytest.skip("pasta cannot run here")
    steps = "FROM busybox\nRUN --network=none ip -4 -o addr show scope global | wc -l\n"

    done = pybuild.build(lay(context, steps), "--network", "pasta")

    assert re.search(r"^#\d+ \d+\.\d+ 0$", done.stderr, re.MULTILINE), done.stderr


# ── helpers that do not work ─────────────────────────────────────────────────────────────────────────────


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "bin" / "pasta"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def wait_for(path: Path) -> bool:
    """Whether it comes to be there."""
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.exists()


def test_one_that_hangs_is_given_up_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, f"echo waiting for godot; touch {tmp_path}/said; exec sleep 1000")
    monkeypatch.setattr(network, "START_LIMIT", 0.3)
    monkeypatch.setattr(network, "_has_default_route", lambda: not wait_for(tmp_path / "said"))
    adopt_orphans()
    before = descendants()
    made = network.StepNetwork("pasta")
    try:
        with pytest.raises(SandboxError, match=r"not connected the step within 0\.3 seconds.*godot"):
            made.start()
    finally:
        made.close()

    assert helpers_left(before) == []


def test_one_that_ends_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "echo starting; echo no such device >&2; exit 1")
    made = network.StepNetwork("pasta")
    try:
        with pytest.raises(SandboxError, match="pasta has ended: no such device"):
            made.start()
    finally:
        made.close()


def test_nobody_waits_to_kill_one_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another process's by then."""
    fake(tmp_path, monkeypatch, "exit 1")
    adopt_orphans()
    before = descendants()
    made = network.StepNetwork("pasta")
    try:
        with pytest.raises(SandboxError, match="has ended"):
            made.start()
        assert helpers_left(before) == []
    finally:
        made.close()


def test_one_whose_builder_is_killed_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "exec sleep 1000")
    adopt_orphans()
    before = descendants()
    child = os.fork()
    if child == 0:
        try:
            network.StepNetwork("pasta").start()
        finally:
            os._exit(0)
    deadline = time.monotonic() + 60
    while not any("sleep 1000" in command_line(pid) for pid in descendants()):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    os.kill(child, 9)
    os.waitpid(child, 0)

    assert helpers_left(before) == []


def test_one_that_is_not_installed_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SandboxError, match="slirp4netns is not installed") as caught:
        network.refuse_missing("slirp4netns")

    assert caught.value.hint == "install it: apt-get install slirp4netns"
