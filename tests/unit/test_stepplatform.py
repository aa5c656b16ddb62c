"""A step for another machine: what its root is given, and what is said where it cannot be started."""

from __future__ import annotations

import errno

import pytest

from builder.errors import StepFailed
from builder.isolation.emulators import Emulation, Handler
from builder.ops.exec import Exec
from builder.prepare import machine_platform
from builder.stepplatform import explained, find_emulation, mounts_of

HELD = Handler("qemu", "/usr/bin/qemu", "F", 0, b"\x7fELF", b"\xff" * 4)
NOT_HELD = HELD.but(flags="")
NONE = Emulation(problem="no emulator is registered for it in binfmt_misc")


def step(platform: str) -> Exec:
    return Exec(("/bin/sh", "-c", "make"), (), "/", platform=platform)


@pytest.mark.parametrize(
    "platform", ["", f"linux/{machine_platform()[0]}", f"linux/{machine_platform()[0]}/v2"]
)
def test_a_step_of_this_machine_is_nothing_special(platform: str) -> None:
    assert find_emulation(step(platform), "root") is None
    assert mounts_of(None) == []


def test_another_operating_system_is_not_emulated() -> None:
    found = find_emulation(step("windows/amd64"), "root")

    assert found is not None
    assert found.problem == "there is no emulator for windows"


def test_an_emulator_is_laid_into_the_root_read_only() -> None:
    (mount,) = mounts_of(Emulation(handlers=(NOT_HELD,), bring=(("/usr/libexec/aarch64", "/usr/bin/qemu"),)))

    assert (mount.target, getattr(mount, "source", "")) == ("/usr/libexec/aarch64", "/usr/bin/qemu")
    assert getattr(mount, "readonly", False)


def test_what_the_kernel_refuses_to_start_is_told_with_its_platform() -> None:
    refused = StepFailed("cannot run /bin/sh: …", status=126, errno=errno.ENOEXEC)

    error = explained(refused, step("linux/arm64"), NONE)

    assert error.message == f"cannot run /bin/sh for linux/arm64: {NONE.problem}"
    assert error.status == 126
    assert error.hint is not None
    assert "qemu-user-static" in error.hint


def test_a_missing_interpreter_may_be_the_emulator() -> None:
    missing = StepFailed("cannot run /bin/sh: its interpreter is not there", status=127, errno=errno.ENOENT)
    gone = "its emulator /usr/bin/qemu is not there"

    held = explained(missing, step("linux/arm64"), Emulation(handlers=(HELD,), problem=gone))
    not_held = explained(missing, step("linux/arm64"), Emulation(handlers=(NOT_HELD,), problem=gone))

    assert held is missing
    assert not_held.message == f"{missing.message} (for linux/arm64, {gone})"


@pytest.mark.parametrize("emulation", [None, Emulation(handlers=(HELD,)), NONE])
def test_a_command_that_ran_is_not_explained(emulation: Emulation | None) -> None:
    failed = StepFailed("process /bin/sh did not complete successfully: exit code: 1", status=1)

    assert explained(failed, step("linux/arm64"), emulation) is failed
