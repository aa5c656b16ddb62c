"""What is told where the kernel refuses a user namespace, by the settings that are found."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from builder import libc
from builder.errors import SandboxError
from builder.isolation import choose, enter

SETTINGS = [path for path, _, _ in enter._SETTINGS]


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, found: dict[str, str], seccomp: str = "0") -> None:
    """The kernel's unshare fails so, with these settings in /proc."""

    def unshare(flags: int) -> None:
        raise OSError(number, f"unshare: {os.strerror(number)}")

    monkeypatch.setattr(libc, "unshare", unshare)
    monkeypatch.setattr(enter, "_read", lambda path: found.get(path, ""))
    monkeypatch.setattr(enter, "_read_status", lambda name: {"Seccomp": seccomp}[name])


@pytest.mark.parametrize(
    ("number", "found", "seccomp", "remedy"),
    [
        (errno.EPERM, {"/proc/sys/kernel/unprivileged_userns_clone": "0"}, "0",
         "sysctl -w kernel.unprivileged_userns_clone=1"),
        (errno.ENOSPC, {"/proc/sys/user/max_user_namespaces": "0"}, "0",
         "sysctl -w user.max_user_namespaces=15000"),
        (errno.EACCES, {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "0",
         "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        (errno.EPERM, dict.fromkeys(SETTINGS, "7"), "2", "--security-opt seccomp=unconfined"),
        (errno.EPERM, {}, "0", "a security module"),
        (errno.EINVAL, {}, "2", "pybuild doctor"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_setting_that_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, number: int, found: dict[str, str], seccomp: str, remedy: str
) -> None:
    refuse(monkeypatch, number, found, seccomp)

    with pytest.raises(SandboxError) as caught:
        enter.enter("single-uid")

    assert os.strerror(number) in caught.value.message
    assert remedy in (caught.value.hint or "")


def test_a_build_that_asks_for_no_rung_goes_on_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EPERM, {}, "2")
    monkeypatch.setattr(choose, "may_mount", lambda: False)
    monkeypatch.setattr(enter, "_Maps", raise_refused)

    standing = choose.stand("auto", "/nowhere")

    assert standing.isolation.rung == "none"
    assert standing.refused is not None
    assert "seccomp=unconfined" in standing.refused.remedy


def raise_refused() -> object:
    raise enter.MapsRefused("newuidmap is not installed", "install it: apt-get install uidmap")


def test_a_root_that_cannot_be_mapped_is_told_before_anything_is_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root of a container that has dropped all capabilities (CAP_SETFCAP is asked for since Linux 5.12)."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(libc, "capabilities", lambda: (0, 0, 0))
    monkeypatch.setattr(libc, "unshare", lambda flags: pytest.fail("a namespace was entered"))

    with pytest.raises(SandboxError, match="lacks CAP_SETFCAP") as caught:
        enter.enter("auto")

    assert "--cap-add SETFCAP" in (caught.value.hint or "")


def test_who_has_no_name_is_told_what_to_write_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """usermod(8) knows users with a name only; subuid(5) takes numbers."""
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999)
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999)
    monkeypatch.setattr(libc, "prctl", lambda option: 0)
    monkeypatch.setattr(shutil, "which", lambda program: program)

    with pytest.raises(enter.MapsRefused) as caught:
        enter._Maps()

    assert caught.value.remedy == "as root: echo 3999999:100000:65536 >> /etc/subuid"
