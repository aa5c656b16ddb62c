"""Other people's tools that read and run our images: skopeo, umoci, podman, runc."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.machine import run
from tests.support.processes import status


def skopeo_inspect(root: Path, name: str, *, config: bool = False) -> dict[str, Any]:
    """The manifest's summary, or the whole config document (skopeo's own form drops what is docker's)."""
    flags = ["--config", "--raw"] if config else []
    data: dict[str, Any] = json.loads(run(["skopeo", "inspect", *flags, f"oci:{root}:{name}"]).stdout)
    return data


def umoci_unpack(root: Path, name: str, folder: Path) -> Path:
    """The image's root filesystem as umoci unpacks it; `folder` becomes a runc bundle."""
    layout = folder.parent / f"{folder.name}-layout"
    run(["skopeo", "copy", "--quiet", f"oci:{root}:{name}", f"oci:{layout}:image"])
    run(["umoci", "unpack", "--image", f"{layout}:image", folder])
    shutil.rmtree(layout)
    return folder / "rootfs"


class Podman:
    """podman with a storage of its own, started with what this machine's limits allow."""

    def __init__(self, folder: Path) -> None:
        self.base = [
            "podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"),
            "--runtime", shutil.which("runc") or "runc", "--cgroup-manager", "cgroupfs",
            "--storage-driver", "overlay",
        ]  # fmt: skip

    def __call__(self, *words: str, check: bool = True) -> str:
        return run([*self.base, *words], check=check).stdout

    def pull(self, root: Path, name: str) -> str:
        """Take an image from our store; returns its id."""
        return self("pull", "--quiet", f"oci:{root}:{name}").split()[-1]

    def flags(self) -> list[str]:
        return ["--network=none", "--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1000:1000"]

    def run(self, image: str, *words: str, options: tuple[str, ...] = ()) -> str:
        return self("run", "--rm", *self.flags(), *options, image, *words)

    def run_status(self, image: str, *words: str) -> tuple[int, str, str]:
        done = run([*self.base, "run", "--rm", *self.flags(), image, *words], check=False)
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def service(self, image: str, *words: str, options: tuple[str, ...] = ()) -> Iterator[Service]:
        name = self("run", "-d", *self.flags(), *options, image, *words).split()[-1]
        try:
            yield Service(self, name)
        finally:
            self("rm", "-f", "-t", "2", "-v", name, check=False)


class Service:
    """A container that runs in a network of its own; asked from inside that network."""

    def __init__(self, podman: Podman, name: str) -> None:
        self.podman = podman
        self.name = name
        self.pid = int(podman("inspect", "--format", "{{.State.Pid}}", name))

    def get(self, url: str, seconds: float = 60) -> tuple[int, str]:
        """Status and body of an HTTP answer, waiting for the server to come up."""
        deadline = time.monotonic() + seconds
        while True:
            command = ["nsenter", "-t", str(self.pid), "-n", "curl", "-s", "-w", "\n%{http_code}", url]
            done = run(command, check=False)
            body, _, status = done.stdout.rpartition("\n")
            if done.returncode == 0:
                return int(status), body
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer from {url}: {self.podman('logs', self.name, check=False)}")
            time.sleep(0.1)

    def wait_for_port(self, port: int, seconds: float = 60) -> None:
        """Until something listens on the container's 127.0.0.1."""
        wait = f"until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done"
        run(["nsenter", "-t", str(self.pid), "-n", "timeout", str(seconds), "bash", "-c", wait])

    def exec(self, *words: str) -> str:
        return self.podman("exec", self.name, *words)

    def user_ids(self) -> set[int]:
        """The real user ids of all processes in the container."""
        pids = run(["pgrep", "--ns", str(self.pid), "--nslist", "pid", "."]).stdout.split()
        found = [status(int(pid)) for pid in pids]
        return {int(fields["Uid"].split()[0]) for fields in found if fields}
