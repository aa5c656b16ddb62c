"""The builders that `compare.py` measures: each one's command lines, its store, its daemon.

    buildctl    on PATH, with BUILDKIT_HOST
    buildah     on PATH, with runc
    docker      on PATH, with a daemon that answers
    kaniko      PYBUILD_COMPARE_KANIKO: a command that takes a FOLDER and the executor's flags, and runs it in
                a root of its own with FOLDER as /workspace; it also needs the registry

Each builds from the same layout of a busybox image. A store is a folder of the benchmark's own, but where a
daemon has it: that one is emptied by its own command.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class Missing(Exception):
    """This builder is not here, or has no such thing."""


@dataclass(frozen=True)
class Job:
    """One build. archive: where the image is to be written, with its layers compressed as `export` says."""

    context: Path
    dockerfile: Path
    archive: Path | None = None
    export: str = ""


class Builder:
    """base: how a Dockerfile names the busybox image; registry: the local one, "" where there is none."""

    name = "?"
    base = "busybox"

    def __init__(self, folder: Path, layout: Path, registry: str) -> None:
        self.folder = folder
        self.layout = layout
        self.registry = registry

    def prepare(self) -> None:
        """Make the base known, in a store that may be empty."""

    def commands(self, job: Job) -> list[list[str]]:
        """What is timed, one after the other. Raises Missing for what this builder cannot do."""
        raise NotImplementedError

    def empty(self) -> None:
        """Empty the store."""
        raise NotImplementedError

    def daemon(self) -> int:
        """The process that does the work for the command, 0 where there is none."""
        return 0


class Pybuild(Builder):
    """The one in the environment of the Python that runs this."""

    name = "pybuild"

    def commands(self, job: Job) -> list[list[str]]:
        program = shutil.which("pybuild", path=str(Path(sys.executable).parent))
        words = [program] if program else [sys.executable, "-m", "builder"]
        words += ["--root", str(self.folder / "store"), "-t", "bench", "-f", str(job.dockerfile)]
        words += ["--build-context", f"busybox=oci-layout://{self.layout}:latest"]
        if job.archive:
            forced = ",compression=zstd,force-compression=true" if job.export == "zstd" else ""
            words += ["-o", f"type=oci,dest={job.archive}{forced}"]
        return [[*words, str(job.context)]]

    def empty(self) -> None:
        shutil.rmtree(self.folder / "store", ignore_errors=True)


class BuildKit(Builder):
    """buildctl, whose daemon somebody else has started."""

    name = "buildkit"

    def __init__(self, folder: Path, layout: Path, registry: str) -> None:
        super().__init__(folder, layout, registry)
        _need("buildctl")
        if "BUILDKIT_HOST" not in os.environ:
            raise Missing("BUILDKIT_HOST is not set")

    def commands(self, job: Job) -> list[list[str]]:
        digest = json.loads((self.layout / "index.json").read_text())["manifests"][0]["digest"]
        words = ["buildctl", "build", "--frontend", "dockerfile.v0", "--progress", "plain"]
        words += ["--local", f"context={job.context}", "--local", f"dockerfile={job.dockerfile.parent}"]
        words += ["--opt", f"filename={job.dockerfile.name}", "--oci-layout", f"bench={self.layout}"]
        words += ["--opt", f"context:busybox=oci-layout://bench@{digest}"]
        if job.archive:
            forced = ",compression=zstd,force-compression=true" if job.export == "zstd" else ""
            words += ["--output", f"type=oci,name=bench,dest={job.archive}{forced}"]
        return [words]

    def empty(self) -> None:
        output(["buildctl", "prune", "--all"])

    def daemon(self) -> int:
        return _listener(os.environ["BUILDKIT_HOST"])


class Buildah(Builder):
    """buildah with OCI isolation, as root."""

    name = "buildah"
    base = "localhost/busybox"

    def __init__(self, folder: Path, layout: Path, registry: str) -> None:
        super().__init__(folder, layout, registry)
        _need("buildah")
        self._runtime = _need("runc")

    def _tool(self) -> list[str]:
        return ["buildah", f"--root={self.folder}/root", f"--runroot={self.folder}/run"]

    def prepare(self) -> None:
        # From its folder: buildah makes a name of the path, and not every path can be one.
        there = ["env", "-C", str(self.layout.parent)]
        image = output([*there, *self._tool(), "pull", "-q", f"oci:{self.layout.name}:latest"]).split()[-1]
        output([*self._tool(), "tag", image, "localhost/busybox:latest"])

    def commands(self, job: Job) -> list[list[str]]:
        build = [*self._tool(), "build", "--layers", "--isolation=oci", f"--runtime={self._runtime}"]
        build += ["--network=host", "--tls-verify=false", "-t", "bench", "-f", str(job.dockerfile)]
        done = [[*build, str(job.context)]]
        if job.archive:
            forced = ["--compression-format=zstd"] if job.export == "zstd" else []
            done.append([*self._tool(), "push", "-q", *forced, "bench", f"oci-archive:{job.archive}"])
        return done

    def empty(self) -> None:
        output([*self._tool(), "rmi", "--all", "--force"])


class Docker(Builder):
    """docker's daemon, with the BuildKit that is in it."""

    name = "docker"

    def __init__(self, folder: Path, layout: Path, registry: str) -> None:
        super().__init__(folder, layout, registry)
        _need("docker")
        try:
            output(["docker", "version", "--format", "{{.Server.Version}}"])
        except SystemExit:
            raise Missing("its daemon does not answer") from None

    def prepare(self) -> None:
        archive = self.folder / "base.tar"
        archive.unlink(missing_ok=True)
        _need("skopeo")
        output(
            ["skopeo", "copy", "-q", f"oci:{self.layout}:latest", f"docker-archive:{archive}:busybox:latest"]
        )
        output(["docker", "load", "-q", "-i", str(archive)])

    def commands(self, job: Job) -> list[list[str]]:
        build = ["docker", "build", "-q", "--network=host", "-t", "bench", "-f", str(job.dockerfile)]
        done = [["env", "DOCKER_BUILDKIT=1", *build, str(job.context)]]
        if job.export == "zstd":
            raise Missing("docker save compresses nothing")
        if job.archive:
            done.append(["docker", "save", "-o", str(job.archive), "bench"])
        return done

    def empty(self) -> None:
        output(["docker", "builder", "prune", "-af"])
        output(["docker", "image", "prune", "-af"])

    def daemon(self) -> int:
        return _listener(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))


class Kaniko(Builder):
    """kaniko's executor; its cache is a repository of the registry."""

    name = "kaniko"

    def __init__(self, folder: Path, layout: Path, registry: str) -> None:
        super().__init__(folder, layout, registry)
        self._command = shlex.split(os.environ.get("PYBUILD_COMPARE_KANIKO", ""))
        if not self._command:
            raise Missing("PYBUILD_COMPARE_KANIKO is not set")
        if not registry:
            raise Missing("it needs a registry")
        self.base = f"{registry}/busybox:latest"
        self._emptied = 0

    def commands(self, job: Job) -> list[list[str]]:
        shared = Path(os.path.commonpath([job.context, job.dockerfile, *filter(None, [job.archive])]))

        def inside(path: Path) -> str:
            return f"/workspace/{path.relative_to(shared)}"

        words = [*self._command, str(shared), "--force", "--insecure", "--insecure-pull", "--verbosity=warn"]
        words += [f"--context=dir://{inside(job.context)}", f"--dockerfile={inside(job.dockerfile)}"]
        words += ["--cache=true", "--cache-copy-layers", f"--cache-repo={self.registry}/kept{self._emptied}"]
        words += ["--no-push", "--destination=bench"]
        if job.archive:
            words += [f"--tar-path={inside(job.archive)}", f"--compression={job.export or 'gzip'}"]
        return [words]

    def empty(self) -> None:
        self._emptied += 1


KINDS: list[type[Builder]] = [Pybuild, BuildKit, Buildah, Docker, Kaniko]


def output(command: list[str]) -> str:
    """What a command prints. Ends the script where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout


def _need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Missing(f"{program} is not on PATH")
    return found


def _listener(address: str) -> int:
    """The process behind a unix socket (unix(7), SO_PEERCRED); 0 for other addresses."""
    if not address.startswith("unix://"):
        return 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.removeprefix("unix://"))
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
