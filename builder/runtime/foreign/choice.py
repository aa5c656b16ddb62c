"""Which runtime of the machine is meant, and how that is told to who starts steps (`parent`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass

import msgspec

from builder.errors import SandboxError
from builder.runtime.foreign.parent import ANNOTATION
from builder.runtime.spec import RuntimeSpec

KNOWN = ("runc", "crun", "youki")
# how each is told to leave cgroups alone
_FLAGS = {"runc": ("--rootless=true",), "crun": ("--cgroup-manager=disabled",)}
_PATIENCE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Foreign:
    """A runtime. name: what it calls itself; flags: what it is always given, beside those that all have."""

    name: str
    path: str
    flags: tuple[str, ...]


def find_installed() -> dict[str, str]:
    """Where those are that are known and on the PATH."""
    return {name: path for name in KNOWN if (path := shutil.which(name))}


def find_runtime(wanted: str) -> Foreign:
    """The runtime of that name or path. Raises SandboxError, with those that are there."""
    path = shutil.which(wanted)
    if path is None:
        names = ", ".join(f"{name} ({path})" for name, path in find_installed().items())
        raise SandboxError(
            f"--runtime {wanted}: no such program",
            code="runtime",
            hint=f"found here: {names}" if names else "none is installed here: apt-get install crun, say",
        )
    path = os.path.abspath(path)
    name = _ask_name(wanted, path)
    return Foreign(name, path, _FLAGS.get(name, ()))


def _ask_name(wanted: str, path: str) -> str:
    """The first word that it says of itself; all OCI runtimes have --version."""
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_runtime(wanted, str(error)) from error
    words = done.stdout.decode(errors="replace").split()
    if done.returncode or not words:
        raise _no_runtime(wanted, f"--version ended with exit code {done.returncode}")
    return words[0]


def _no_runtime(wanted: str, reason: str) -> SandboxError:
    return SandboxError(
        f"--runtime {wanted}: {reason}",
        code="runtime",
        hint="it has to be an OCI runtime, such as runc or crun",
    )


def with_runtime(spec: RuntimeSpec, runtime: Foreign) -> RuntimeSpec:
    """The spec, to be carried out by that runtime."""
    return msgspec.structs.replace(
        spec, annotations={**spec.annotations, ANNOTATION: json.dumps(asdict(runtime))}
    )
