"""Steps by the OCI runtimes of this machine: the same spec, the same ends, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from builder.errors import BuildError, SandboxError, StepFailed
from builder.runtime.console import with_terminal
from builder.runtime.devicenodes import DeviceNode
from builder.runtime.foreign.choice import Foreign, find_runtime, with_runtime
from builder.runtime.launch import Runtime
from builder.runtime.spec import Bind, Overlay, RuntimeSpec, SecretFile, Tmpfs, parse_ulimit

from .conftest import Sandbox

pytestmark = pytest.mark.root


class ForeignSandbox(Sandbox):
    """Runs specs by another runtime."""

    foreign: Foreign

    def spec(self, command: str | list[str], **changes: Any) -> RuntimeSpec:
        return with_runtime(super().spec(command, **changes), self.foreign)


@pytest_asyncio.fixture(params=["runc", "crun"])
async def foreign(
    request: pytest.FixtureRequest, base: Path, tmp_path: Path
) -> AsyncIterator[ForeignSandbox]:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} on this machine")
    before = cgroups()
    runtime = Runtime.start()
    try:
        sandbox = ForeignSandbox(runtime, base, tmp_path)
        sandbox.foreign = find_runtime(request.param)
        yield sandbox
    finally:
        await runtime.close()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert cgroups() <= before


def cgroups() -> set[str]:
    """Those that have the name of a container of ours."""
    return {path for path, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(path) == "step"}


async def test_the_command_is_process_1_of_a_container(foreign: ForeignSandbox) -> None:
    said = await foreign.says("echo $$; set -- /proc/[0-9]*; echo $*; hostname; umask; pwd", cwd="/etc")
    assert said == ["1", "/proc/1", "buildkitsandbox", "0022", "/etc"]


async def test_output_comes_by_its_streams_whole_and_in_order(foreign: ForeignSandbox) -> None:
    output = await foreign.run("seq 1 20000; seq 1 20000 >&2; printf end >&2")
    assert output.out == [str(n) for n in range(1, 20001)]
    assert output.err == [*output.out, "end"]


async def test_exit_codes_and_signals_are_told(foreign: ForeignSandbox) -> None:
    assert (await foreign.run("exit 37")).status.code == 37
    killed = (await foreign.run("while :; do :; done", rlimits=[parse_ulimit("cpu=1")])).status
    assert (killed.signal, killed.code) == (9, 137)
    assert killed.cpu_seconds > 0.5


async def test_mounts_lie_where_the_spec_has_them(foreign: ForeignSandbox, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "d").mkdir(parents=True)
    (layer / "d/f").write_text("f\n")
    written = tmp_path / "written"
    written.mkdir()
    mounts = [
        Overlay("/stage", (str(layer),), subpath="d"),
        Overlay("/thrown", (str(layer),), readonly=False),
        Bind("/cache", str(written), readonly=False),
        Tmpfs("/a", size=1 << 20),
        Tmpfs("/a/b"),
        Bind("/a/b/f", str(layer / "d/f")),
    ]
    said = await foreign.says(
        "cat /stage/f /a/b/f; echo x > /thrown/d/f; cat /thrown/d/f; echo kept > /cache/k; "
        "(touch /stage/x) 2>/dev/null || echo read-only; df -k /a | awk 'END { print $2 }'",
        mounts=mounts,
    )
    assert said == ["f", "f", "x", "read-only", "1024"]
    assert (written / "k").read_text() == "kept\n"
    assert (layer / "d/f").read_text() == "f\n"


async def test_a_secret_is_on_no_disk_with_all_that_the_runtime_keeps(
    foreign: ForeignSandbox, tmp_path: Path
) -> None:
    value = b"hush-" + os.urandom(8).hex().encode()
    said = await foreign.says(
        "cat /run/key; stat -c ' %a %u' /run/key; echo $TOKEN | wc -c; find / -xdev -name 'config.json'",
        mounts=[SecretFile("/run/key", "key", mode=0o440, uid=1000)],
        env=[("PATH", "/bin"), ("TOKEN", value.decode())],
        files={"key": value},
    )
    assert said == [f"{value.decode()} 440 1000", str(len(value) + 1)]
    for path in (*tmp_path.rglob("*"), *Path("/run/runc").glob("**/*"), *Path("/run/crun").glob("**/*")):
        if path.is_file():
            assert value not in path.read_bytes()


async def test_no_device_can_be_opened_but_the_specs(foreign: ForeignSandbox, tmp_path: Path) -> None:
    """Also not one that the image brings."""
    (tmp_path / "layer").mkdir()
    os.mknod(tmp_path / "layer/brought", 0o666 | 0o020000, os.makedev(1, 5))
    said = await foreign.says(
        "head -c 3 /dev/zero | wc -c; head -c 1 /dev/own | wc -c; "
        "for d in /made /tmp/made /dev/made /dev/shm/made; do mknod $d c 1 5; done; "
        "for d in /brought /made /tmp/made /dev/made /dev/shm/made; do "
        "head -c 1 $d 2>/dev/null && echo opened $d; done; echo end",
        mounts=[Tmpfs("/tmp")],
        devices=[DeviceNode(path="/dev/own", type="c", major=1, minor=5)],
        lower=[str(foreign.base), str(tmp_path / "layer")],
    )
    assert said == ["3", "1", "end"]


async def test_insecure_steps_have_all_rights(foreign: ForeignSandbox) -> None:
    said = await foreign.says(
        "mount -t tmpfs none /tmp && echo mounted; mknod /zero c 1 5 && head -c 1 /zero | wc -c; "
        "grep Seccomp: /proc/self/status",
        insecure=True,
    )
    assert said == ["mounted", "1", "Seccomp:\t0"]


async def test_a_network_of_its_own_has_loopback_alone_and_it_is_up(foreign: ForeignSandbox) -> None:
    said = await foreign.says(
        "ls /sys/class/net; ip -o addr | awk '{ print $2, $4 }'; readlink /proc/self/ns/net", network="none"
    )
    assert said[:2] == ["lo", "lo 127.0.0.1/8"]
    assert said[-1] != os.readlink("/proc/self/ns/net")
    assert await foreign.says("readlink /proc/self/ns/net") == [os.readlink("/proc/self/ns/net")]


@pytest.mark.parametrize("target", ["/", "/../..", "/proc/sys", "/dev/pts/x"])
async def test_what_is_no_place_for_a_mount_is_none_here(foreign: ForeignSandbox, target: str) -> None:
    with pytest.raises(BuildError, match="cannot mount") as caught:
        await foreign.run("true", mounts=[Tmpfs(target)])
    assert caught.value.code == "mount-failed"


@pytest.mark.parametrize(("argv", "status"), [(["none"], 127), (["/none"], 127), (["/opt/plain"], 126)])
async def test_a_command_that_cannot_be_run_is_the_steps_fault(
    foreign: ForeignSandbox, tmp_path: Path, argv: list[str], status: int
) -> None:
    folder = tmp_path / "layer/opt"
    folder.mkdir(parents=True)
    (folder / "plain").write_text("echo\n")
    with pytest.raises(StepFailed, match=f"^{foreign.foreign.name} create: ") as caught:
        await foreign.run(argv, lower=[str(foreign.base), str(tmp_path / "layer")])
    assert caught.value.status == status


async def test_what_a_runtime_says_of_its_failure_is_told_once(foreign: ForeignSandbox) -> None:
    """By the error, and not as output of the command too."""
    lines: list[bytes] = []
    spec = foreign.spec("true", rlimits=[parse_ulimit("nofile=2000000000")])
    with pytest.raises(BuildError, match="rlimit") as caught:
        await foreign.runtime.run(spec, lambda stream, line: lines.append(line))
    assert caught.value.code == "ulimit"
    assert lines == []


async def test_a_cancelled_step_leaves_no_process(
    foreign: ForeignSandbox, processes: Callable[[str], list[int]]
) -> None:
    started = asyncio.Event()
    step = asyncio.create_task(
        foreign.runtime.run(foreign.spec("echo on; sleep 1234567; true"), lambda *_: started.set())
    )
    await asyncio.wait_for(started.wait(), 60)
    async with asyncio.timeout(60):
        while not processes("1234567"):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert processes("1234567") == []
    assert await foreign.says("echo next") == ["next"]


async def test_a_terminal_is_given_by_our_own_runtime(foreign: ForeignSandbox) -> None:
    spec = with_terminal(foreign.spec("exit 5"), 24, 80, "xterm")
    terminals: list[int] = []
    status = await foreign.runtime.run(spec, lambda *_: None, on_terminal=terminals.append)
    os.close(terminals.pop())
    assert status.code == 5


# --- which runtime ---


def test_a_runtime_that_is_not_there_is_an_error_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="--runtime runc: no such program") as caught:
        find_runtime("runc")
    assert "none is installed" in (caught.value.hint or "")
    write_program(tmp_path / "crun", "echo crun version 1")
    with pytest.raises(SandboxError) as caught:
        find_runtime("runc")
    assert f"crun ({tmp_path}/crun)" in (caught.value.hint or "")
    assert find_runtime(f"{tmp_path}/crun").name == "crun"


def test_a_program_that_has_no_version_is_no_runtime(tmp_path: Path) -> None:
    write_program(tmp_path / "tool", "exit 3")
    with pytest.raises(SandboxError, match="--version ended with exit code 3"):
        find_runtime(str(tmp_path / "tool"))


async def test_a_runtime_that_fails_without_a_word_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    write_program(tmp_path / "broken", '[ "$1" = --version ] && echo broken 1 || { echo noise >&2; exit 4; }')
    lines: list[bytes] = []
    spec = with_runtime(sandbox.spec("true"), find_runtime(str(tmp_path / "broken")))
    with pytest.raises(SandboxError, match="broken create: it ended with exit code 4") as caught:
        await sandbox.runtime.run(spec, lambda stream, line: lines.append(line))
    assert caught.value.code == "runtime"
    assert lines == []


async def test_a_runtime_that_makes_no_container_is_told(sandbox: Sandbox) -> None:
    spec = with_runtime(sandbox.spec("true"), find_runtime("/bin/true"))
    with pytest.raises(SandboxError, match="true create: it told of no container's process"):
        await sandbox.runtime.run(spec, lambda stream, line: None)


async def test_bytes_that_no_json_can_hold_are_refused(foreign: ForeignSandbox) -> None:
    with pytest.raises(SandboxError, match="UTF-8 only"):
        await foreign.run("true", env=[("PATH", "/bin"), ("ODD", "a\udcff")])


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
