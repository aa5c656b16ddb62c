"""A small base image: one static busybox with its names, some users, and the folders that images have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.machine import Pybuild

DOCKERFILE = 'FROM scratch\nCOPY rootfs /\nENV PATH=/bin:/sbin:/usr/bin\nCMD ["sh"]\n'
FOLDERS = ("bin", "sbin", "usr/bin", "etc", "root", "home/app", "var", "proc", "sys", "dev", "tmp")
PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = "root:x:0:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n"


def make_rootfs(folder: Path) -> None:
    """Make the root filesystem's tree; the programs are links to the one binary."""
    program = shutil.which("busybox")
    assert program is not None
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    shutil.copyfile(program, folder / "bin/busybox")
    (folder / "bin/busybox").chmod(0o755)
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/group").write_text(GROUP)


def make_store(folder: Path) -> Path:
    """A store with `busybox:latest` in it, to be copied."""
    make_rootfs(folder / "context/rootfs")
    (folder / "context/Dockerfile").write_text(DOCKERFILE)
    Pybuild(folder / "store").build(folder / "context", "-t", "busybox")
    return folder / "store"
