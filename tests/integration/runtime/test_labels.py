"""Labels of security modules on their way to the kernel: to procfs and to nothing else, or not at all."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import libc
from builder.errors import SandboxError
from builder.runtime import labels, mounts
from builder.runtime.spec import with_labels

from .conftest import Sandbox

pytestmark = pytest.mark.root

MS_BIND = 4096


def in_private_mounts(function: Callable[[], None]) -> None:
    """Call it in a process with a mount namespace of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            libc.unshare(libc.CLONE_NEWNS)
            libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def refused(procfs: int, message: str) -> None:
    with pytest.raises(OSError, match=message):
        os.close(labels.open_attribute(procfs, ["self/attr/exec"]))


@pytest.mark.hostile("CVE-2025-52881", "CVE-2025-62596")
@pytest.mark.parametrize("place", ["attr/exec", "attr"])
def test_a_mount_over_the_file_for_the_label_is_not_written_to(tmp_path: Path, place: str) -> None:
    """As a race of two containers that share a mount has it: the write goes to a file that takes anything."""
    fake = tmp_path / "fake"
    (fake if place == "attr" else tmp_path).mkdir(exist_ok=True)
    canary = fake / "exec" if place == "attr" else fake
    canary.write_text("canary")

    def attack() -> None:
        libc.mount(str(fake), f"/proc/self/{place}", "", MS_BIND)
        procfs = os.open("/proc", os.O_PATH)
        refused(procfs, "cross-device")

    in_private_mounts(attack)
    assert canary.read_text() == "canary"


@pytest.mark.hostile("CVE-2025-52881")
def test_a_folder_that_looks_like_procfs_is_not_written_to(tmp_path: Path) -> None:
    for name, link in (("file", None), ("link", "../../canary"), ("outside", "/../canary")):
        attributes = tmp_path / name / "self/attr"
        attributes.mkdir(parents=True)
        (tmp_path / name / "canary").write_text("canary")
        if link is None:
            (attributes / "exec").write_text("canary")
        else:
            (attributes / "exec").symlink_to(link)
        top = os.open(tmp_path / name, os.O_PATH)
        refused(top, "not the kernel's|cross-device")
        os.close(top)

    assert {path.read_text() for path in tmp_path.rglob("exec") if path.exists()} == {"canary"}
    assert {path.read_text() for path in tmp_path.rglob("canary")} == {"canary"}


def test_a_procfs_that_hangs_nowhere_has_the_file() -> None:
    def look() -> None:
        procfs = mounts.new_filesystem("proc", [], 0)
        os.close(labels.open_attribute(procfs, ["self/attr/none", "self/attr/exec"]))

    in_private_mounts(look)


@pytest.mark.skipif(
    os.path.exists("/sys/module/apparmor") or os.path.exists("/sys/fs/selinux/enforce"),
    reason="this machine has a security module that knows labels",
)
@pytest.mark.hostile("CVE-2025-52881")
@pytest.mark.parametrize("what", ["apparmor", "selinux"])
async def test_a_step_whose_label_the_kernel_does_not_take_is_not_run(sandbox: Sandbox, what: str) -> None:
    spec = with_labels(sandbox.spec("echo run"), **{what: "no-such-label"})
    said: list[bytes] = []

    with pytest.raises(SandboxError, match=r"cannot take the (AppArmor profile|SELinux label) no-such-label"):
        await sandbox.runtime.run(spec, lambda stream, line: said.append(line))

    assert said == []


async def test_a_label_for_files_is_a_parameter_of_each_filesystem_that_is_made(sandbox: Sandbox) -> None:
    """Filesystems refuse it here, where no module takes it out of their hands: so it was given."""
    spec = with_labels(sandbox.spec("echo run"), files="system_u:object_r:container_file_t:s0")

    with pytest.raises(SandboxError, match="cannot mount the root filesystem"):
        await sandbox.runtime.run(spec, lambda stream, line: None)
