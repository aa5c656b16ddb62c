"""A user without rights who never was on this machine, in a mount namespace that shows it to him.

The one idea: /etc/passwd and its kin, the checkout and this Python are bind mounts, so that nothing of the
machine is changed, and what a user lacks (a range of ids, a set-uid newuidmap) is laid over what is there.
What the namespace shows is gone with the process that was started in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.machine import CHECKOUT, run

UID = 54321
NAME = "rootless"
FIRST, COUNT = 700_000_000, 65536  # the range of ids, which nobody else has
IS_SHARED = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))  # this Python is a library, beside its program

# Conditions, as lines of a shell in the namespace, run as root before the user's program.
NO_RANGE = "mount --bind /dev/null /etc/subuid"
NO_NEWUIDMAP = "PATH=$FOLDER/programs"
PLAIN_NEWUIDMAP = """
for name in newuidmap newgidmap; do
    cp "$(command -v $name)" $FOLDER/programs/$name && chmod 755 $FOLDER/programs/$name
done
PATH=$FOLDER/programs:$PATH
"""
MASKED_PROC = "mount -t tmpfs -o ro tmpfs /proc/irq"
NO_NEW_PRIVILEGES = "PREFIX='setpriv --no-new-privs'"
NAMESPACES_LIMITED = 'PREFIX="$WITHOUT_NAMESPACES limit"'
NAMESPACES_FILTERED = 'PREFIX="$WITHOUT_NAMESPACES filter"'
MOUNTS_FILTERED = 'PREFIX="$WITHOUT_NAMESPACES nomounts"'
FEW_DEVICES = "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9"
NO_DEVICES = "mount -t tmpfs tmpfs /dev"
READ_ONLY_PROC = "mount -o remount,bind,ro /proc"


class Rootless:
    """Runs the command as that user. home: a folder of theirs; root: their store; context: to build from."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rootless-"))
        self.folder.chmod(0o755)
        self.home, self.context = self.folder / "home", self.folder / "context"
        self.root = self.home / "store"
        self._python = f"{self.folder}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        for name in ("home", "context", "programs", "python", "packages", "checkout"):
            (self.folder / name).mkdir()
        os.chown(self.home, UID, UID)
        row = f"{NAME}:{FIRST}:{COUNT}\n"
        texts = {
            "passwd": f"root:x:0:0:root:/root:/bin/sh\n{NAME}:x:{UID}:{UID}::{self.home}:/bin/sh\n",
            "group": f"root:x:0:\n{NAME}:x:{UID}:\n",
            "subuid": row,
            "subgid": row,
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        for name in ("setpriv", "sh", "env", "mount", "id"):
            (self.folder / "programs" / name).symlink_to(os.path.realpath(shutil.which(name) or name))

    def close(self) -> None:
        """Remove all of it."""
        run(["rm", "-rf", self.folder])

    def command(self, words: Sequence[str], *, conditions: Sequence[str] = ()) -> list[str]:
        """What starts `pybuild WORDS`, or with a first word like "/bin/sh" that program."""
        program = list(words) if words[0].startswith("/") else self._pybuild(words)
        lines = [
            f"FOLDER={shlex.quote(str(self.folder))} PREFIX=",
            *(f"mount --bind $FOLDER/{name} /etc/{name}" for name in ("passwd", "group", "subuid", "subgid")),
            f"mount --rbind {shlex.quote(sys.base_prefix)} $FOLDER/python",
            f"mount --rbind {shlex.quote(sysconfig.get_path('purelib'))} $FOLDER/packages",
            f"mount --rbind {shlex.quote(str(CHECKOUT))} $FOLDER/checkout",
            f"WITHOUT_NAMESPACES='{self._python} -m tests.support.withoutnamespaces'",
            *conditions,
            f"exec $PREFIX setpriv --reuid {UID} --regid {UID} --clear-groups {shlex.join(program)}",
        ]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", "\n".join(lines)]

    def run(
        self,
        *words: str | os.PathLike[str],
        conditions: Sequence[str] = (),
        before: Sequence[str] = (),
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. before: the words of a program that starts all of it."""
        command = [*before, *self.command([os.fspath(word) for word in words], conditions=conditions)]
        done = run(command, check=check, env={**self._environment(), **(env or {})}, cwd=Path("/"))
        assert "Traceback (most recent call last)" not in done.stderr, done.stderr
        return done

    def build(
        self, rung: str, *flags: str | os.PathLike[str], check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Build the context on a rung."""
        return self.run("build", "--isolation", rung, "--progress=plain", *flags, self.context, check=check)

    def start(self, *words: str | os.PathLike[str]) -> subprocess.Popen[str]:
        """Start it, with its output in a pipe."""
        return subprocess.Popen(
            self.command([os.fspath(word) for word in words]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=self.environment,
        )

    @property
    def environment(self) -> dict[str, str]:
        """All variables of its processes."""
        return {**os.environ, **self._environment()}

    def _pybuild(self, words: Sequence[str]) -> list[str]:
        return [self._python, "-m", "builder", *words]

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PYBUILD_ROOT": str(self.root),
            "PYTHONPATH": f"{self.folder}/checkout:{self.folder}/packages",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"LD_LIBRARY_PATH": f"{self.folder}/python/lib"} if IS_SHARED else {}),
        }
