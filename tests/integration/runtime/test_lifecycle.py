"""Output, ends and deaths: whatever happens, no process and no mount of a step stays."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import SandboxError
from builder.runtime import init
from builder.runtime.launch import LONGEST_LINE, Runtime
from builder.runtime.spec import Bind, encode
from tests.support.processes import mounts, numbers

from .conftest import Sandbox

pytestmark = pytest.mark.root

Find = Callable[[str], list[int]]


async def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within some seconds."""
    for _ in range(3000):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


# --- output ---


async def test_each_streams_lines_come_in_order(sandbox: Sandbox) -> None:
    output = await sandbox.run("for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done; printf 'no newline'")
    assert output.out == ["o1", "o2", "o3", "o4", "o5", "no newline"]
    assert output.err == ["e1", "e2", "e3", "e4", "e5"]


async def test_empty_lines_and_odd_bytes_are_kept(sandbox: Sandbox) -> None:
    output = await sandbox.run(r"printf '\n\na\r\n\377\000b\n'")
    assert [line for _, line in output.lines] == [b"", b"", b"a\r", b"\xff\x00b"]


async def test_a_line_comes_while_the_command_still_runs(sandbox: Sandbox) -> None:
    told = asyncio.Event()
    spec = sandbox.spec("echo now; read x < /go")
    os.mkfifo(sandbox.upper / "go")
    step = asyncio.create_task(sandbox.runtime.run(spec, lambda *_: told.set()))
    async with asyncio.timeout(60):
        await told.wait()
    assert not step.done()
    step.cancel()
    await asyncio.wait([step])


async def test_a_line_without_end_comes_in_pieces(sandbox: Sandbox) -> None:
    output = await sandbox.run("head -c 200000 /dev/zero | tr '\\0' x; echo; echo after")
    *pieces, last = output.out
    assert last == "after"
    assert "".join(pieces) == "x" * 200000
    assert max(map(len, pieces)) <= LONGEST_LINE


async def test_ten_megabytes_are_neither_lost_nor_kept(sandbox: Sandbox) -> None:
    digest, seen = hashlib.sha256(), 0

    def take(stream: int, line: bytes) -> None:
        nonlocal seen
        digest.update(line + b"\n")
        seen += len(line) + 1

    spec = sandbox.spec("awk 'BEGIN { for (i = 0; i < 105000; i++) printf \"%099d\\n\", i }'; echo end")
    tracemalloc.start()
    status = await sandbox.runtime.run(spec, take)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert status.code == 0
    expected = "".join(f"{number:099}\n" for number in range(105000)) + "end\n"
    assert seen == len(expected) > 10_000_000
    assert digest.hexdigest() == hashlib.sha256(expected.encode()).hexdigest()
    assert peak < 4_000_000


async def test_a_slow_reader_slows_the_command(sandbox: Sandbox) -> None:
    count = 0

    def take(stream: int, line: bytes) -> None:
        nonlocal count
        if not count:
            time.sleep(0.3)
            # all that can have been written meanwhile: one read, and what the pipe holds
            assert (sandbox.upper / "done").exists() is False
        count += 1

    await sandbox.run("true")
    spec = sandbox.spec("head -c 1000000 /dev/zero | tr '\\0' '\\n'; touch /done")
    await sandbox.runtime.run(spec, take)
    assert count == 1000000


# --- ends ---


async def test_a_background_process_ends_with_its_step(sandbox: Sandbox, processes: Find) -> None:
    word = "86401"
    async with asyncio.timeout(60):
        await sandbox.says(f"sleep {word} & echo started")
    assert processes(word) == []


async def test_cancelling_ends_every_process_at_once(sandbox: Sandbox, processes: Find) -> None:
    word = "86402"
    spec = sandbox.spec(f"trap '' TERM INT; setsid sleep {word} & (sleep {word}; true) & sleep {word}; true")
    step = asyncio.create_task(sandbox.runtime.run(spec, lambda *_: None))
    assert await until(lambda: len(processes(word)) == 3)
    step.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await step
    assert processes(word) == []
    assert await sandbox.says("echo still works") == ["still works"]


@pytest.mark.parametrize("delay", [0, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01])
async def test_cancelling_at_any_moment_leaves_nothing(
    sandbox: Sandbox, processes: Find, delay: float
) -> None:
    word = "86403"
    spec = sandbox.spec(["/bin/sleep", word])
    step = asyncio.create_task(sandbox.runtime.run(spec, lambda *_: None))
    await asyncio.sleep(delay)
    step.cancel()
    await asyncio.wait([step])
    assert step.cancelled()
    assert processes(word) == []


async def test_cancelling_twice_still_waits_for_the_end(sandbox: Sandbox, processes: Find) -> None:
    word = "86404"
    step = asyncio.create_task(sandbox.runtime.run(sandbox.spec(["/bin/sleep", word]), lambda *_: None))
    assert await until(lambda: bool(processes(word)))
    step.cancel()
    await asyncio.sleep(0)
    step.cancel()
    await asyncio.wait([step])
    assert step.cancelled()
    assert processes(word) == []


async def test_a_reader_that_raises_ends_the_step(sandbox: Sandbox, processes: Find) -> None:
    word = "86405"

    def take(stream: int, line: bytes) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        await sandbox.runtime.run(sandbox.spec(f"echo line; sleep {word}"), take)
    assert processes(word) == []


async def test_closing_ends_what_still_runs(base: Path, tmp_path: Path, processes: Find) -> None:
    word = "86406"
    runtime = Runtime.start()
    spec = Sandbox(runtime, base, tmp_path).spec(["/bin/sleep", word])
    step = asyncio.create_task(runtime.run(spec, lambda *_: None))
    assert await until(lambda: bool(processes(word)))
    await runtime.close()
    with pytest.raises(SandboxError):
        await step
    assert processes(word) == []


async def test_steps_run_side_by_side(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each waits for all others: one after another they would never end."""
    (tmp_path / "met").mkdir()
    met = Bind("/met", str(tmp_path / "met"), readonly=False)
    meet = "touch /met/{0}; until [ $(ls /met | wc -l) = 16 ]; do sleep 0.05; done; echo {0}"
    specs = [sandbox.spec(meet.format(number), mounts=[met]) for number in range(16)]
    said: dict[int, list[bytes]] = {number: [] for number in range(16)}
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(
                sandbox.runtime.run(spec, lambda _, line, number=number: said[number].append(line))
                for number, spec in enumerate(specs)
            )
        )
    assert said == {number: [str(number).encode()] for number in range(16)}


async def test_the_zygotes_death_is_an_error_and_ends_its_steps(
    base: Path, tmp_path: Path, processes: Find
) -> None:
    word = "86407"
    runtime = Runtime.start()
    sandbox = Sandbox(runtime, base, tmp_path)
    step = asyncio.create_task(runtime.run(sandbox.spec(["/bin/sleep", word]), lambda *_: None))
    assert await until(lambda: bool(processes(word)))
    os.kill(runtime._zygote.pid, signal.SIGKILL)
    with pytest.raises(SandboxError, match="has ended"):
        await step
    with pytest.raises(SandboxError, match="has ended"):
        await sandbox.run("true")
    assert await until(lambda: not processes(word))
    await runtime.close()


async def test_a_runtime_can_be_started_beside_threads_and_leaves_the_thread_as_it_was(
    base: Path, tmp_path: Path
) -> None:
    before = os.readlink("/proc/thread-self/ns/pid_for_children")
    waiting = asyncio.create_task(asyncio.to_thread(asyncio.run, asyncio.sleep(0.2)))
    await asyncio.sleep(0)
    runtime = Runtime.start()
    assert os.readlink("/proc/thread-self/ns/pid_for_children") == before
    assert await Sandbox(runtime, base, tmp_path).says("echo ran") == ["ran"]
    await waiting
    await runtime.close()


async def test_the_zygote_ignores_the_terminals_signals(sandbox: Sandbox) -> None:
    await sandbox.says("true")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(sandbox.runtime._zygote.pid, number)
    assert await sandbox.says("echo alive") == ["alive"]
    assert os.getsid(sandbox.runtime._zygote.pid) == sandbox.runtime._zygote.pid


BUILDER = """
import asyncio, sys
from builder.runtime.launch import Runtime
from builder.runtime.spec import decode
async def main():
    runtime = Runtime.start()
    spec = decode(sys.stdin.buffer.read())
    await runtime.run(spec, lambda stream, line: print(line.decode(), flush=True))
asyncio.run(main())
"""


def start_builder() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BUILDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("command", ["sleep {}", "su app -s /bin/sh -c 'exec sleep {}'"])
async def test_a_killed_builder_leaves_no_process_and_no_mount(
    sandbox: Sandbox, processes: Find, command: str
) -> None:
    word = "86408"
    # `su` changes credentials, which clears PR_SET_PDEATHSIG: the PID namespaces must do
    spec = sandbox.spec(f"echo running; {command.format(word)}")
    builder = start_builder()
    try:
        assert builder.stdin is not None
        assert builder.stdout is not None
        builder.stdin.write(encode(spec))
        builder.stdin.close()
        builder.stdin = None
        assert builder.stdout.readline() == b"running\n"
        assert await until(lambda: bool(processes(word)))
        builder.kill()
        builder.wait()
        assert await until(lambda: not processes(word))
        assert await until(lambda: not mounted_anywhere(str(sandbox.upper)))
    finally:
        builder.kill()
        builder.communicate()


def mounted_anywhere(path: str) -> bool:
    return any(f"upperdir={path}," in mounts(pid) for pid in numbers())


# --- the same spec, by hand and by others ---


async def test_the_runtime_runs_by_hand(sandbox: Sandbox, tmp_path: Path) -> None:
    document = tmp_path / "config.json"
    assert init.__file__ is not None
    command = [sys.executable, "-I", "-S", init.__file__, str(document)]
    document.write_bytes(encode(sandbox.spec("echo $$ $A; exit 7", env=[("PATH", "/bin"), ("A", "b")])))
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, env={"A": "not this"})
    assert (done.returncode, done.stdout, done.stderr) == (7, b"1 b\n", b"")
    document.write_bytes(encode(sandbox.spec(["none"])))
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    assert done.returncode == 125
    assert json.loads(done.stderr)["step"] == "exec"


@pytest.mark.peers
async def test_runc_runs_the_same_spec(sandbox: Sandbox, tmp_path: Path) -> None:
    runc = shutil.which("runc")
    if runc is None:
        pytest.skip("no runc on this machine")
    question = (
        "grep -E '^(Cap|Seccomp:|NoNew|Groups)' /proc/self/status; id -u; hostname; echo $$; umask; pwd"
    )
    settings = {"cwd": "/etc", "uid": 1000, "gid": 1000, "groups": [4]}
    ours = await sandbox.says(question, **settings)
    bundle = tmp_path / "bundle"
    shutil.copytree(sandbox.base, bundle / "rootfs", symlinks=True)
    (bundle / "rootfs").chmod(0o755)
    spec = json.loads(encode(sandbox.spec(question, **settings)))
    del spec["annotations"]
    spec["root"]["path"] = "rootfs"
    (bundle / "config.json").write_text(json.dumps(spec))
    done = await asyncio.to_thread(
        subprocess.run,
        [runc, "--root", str(tmp_path / "state"), "run", "--bundle", str(bundle), f"pybuild-{os.getpid()}"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.decode().splitlines() == ours, done.stderr
