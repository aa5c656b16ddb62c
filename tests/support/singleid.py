"""Steps with recorded owners, run by a runtime in a user namespace of a single id.

A program of its own, since a process with threads cannot enter a user namespace: one JSON object a line,

    -> {"spec": {arguments of sandbox_spec}, "table": {path: [uid, gid]}, "plain": BOOL}
    <- {"code": CODE, "out": [line, ...], "err": [line, ...], "owners": {path: [uid, gid]}}
       or {"error": TEXT}

`SingleId` is its other end. With the argument OUTER_PROC a part of /proc is covered, as in containers: the
kernel then refuses a new one, and steps get the one that is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

OUTER_PROC = "--outer-proc"
CHECKOUT = Path(__file__).parents[2]


class SingleId:
    """The program, started; `run` asks it for one step."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.singleid", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            text=True,
        )

    def send(self, **step: Any) -> None:
        """Ask for a step without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(step) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """What a step gave."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the runtime has ended: {self.process.wait()}"
        told: dict[str, Any] = json.loads(line)
        return told

    def run(self, **step: Any) -> dict[str, Any]:
        """One step from start to end."""
        self.send(**step)
        return self.receive()

    def close(self) -> None:
        """End the program."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def enter() -> None:
    """Become root of a new user namespace with this one id, and of a mount namespace."""
    from builder import libc

    enter_user_namespace()
    libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    if OUTER_PROC in sys.argv:
        libc.mount("tmpfs", "/proc/irq", "tmpfs")
        enter_user_namespace()  # where that mount cannot be taken away


def enter_user_namespace() -> None:
    """One with this process's ids as its only ones."""
    from builder import libc

    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


async def serve() -> None:
    """Answer until standard input ends."""
    from builder.runtime.launch import Runtime

    runtime = Runtime.start()
    try:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await answer(runtime, json.loads(line))), flush=True)
    finally:
        await runtime.close()


async def answer(runtime: Any, step: dict[str, Any]) -> dict[str, Any]:
    """Run one step."""
    from builder.errors import BuildError
    from builder.runtime import spec as specs
    from builder.runtime.ownership.handover import TABLE
    from builder.runtime.ownership.request import table, with_recorded_owners

    described = dict(step["spec"])
    described["mounts"] = [specs.Bind(**bind) for bind in described.pop("binds", ())] + [
        specs.SecretFile(**secret) for secret in described.pop("secrets", ())
    ]
    spec = specs.sandbox_spec(**described)
    if OUTER_PROC in sys.argv:
        spec = specs.with_outer_proc(spec)
    if not step.get("plain"):
        spec = with_recorded_owners(spec)
    lines: dict[int, list[str]] = {1: [], 2: []}
    files = {TABLE: table(step.get("table", {})), "secret": b"secret"}
    try:
        status = await runtime.run(spec, lambda stream, text: lines[stream].append(text.decode()), files)
    except BuildError as error:
        return {"error": str(error), "err": lines[2]}
    return {"code": status.code, "out": lines[1], "err": lines[2], "owners": dict(status.owners)}


if __name__ == "__main__":
    enter()
    asyncio.run(serve())
