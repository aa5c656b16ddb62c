"""What is left of a sandbox where there is chroot(2) alone, and what is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import BuildError
from builder.runtime import spec as specs
from builder.runtime.chroot.request import with_chroot


def sandbox(**more: Any) -> specs.RuntimeSpec:
    return specs.sandbox_spec(
        lower=(), upper="/store/root", work="/store/work", argv=["true"], env=[], cwd="/", **more
    )


def laid(target: str) -> specs.Bind:
    return specs.Bind(target=target, source="/store/file")


def test_nothing_is_left_that_takes_a_mount_or_a_namespace() -> None:
    spec = with_chroot(sandbox(mounts=[laid("/etc/hosts"), laid("/etc/resolv.conf")]))

    assert [mount.destination for mount in spec.mounts] == ["/etc/hosts", "/etc/resolv.conf"]
    assert spec.linux.namespaces == ()
    assert spec.linux.masked_paths == spec.linux.readonly_paths == ()
    assert spec.hostname == ""


@pytest.mark.parametrize("insecure", [False, True])
def test_a_command_may_not_leave_its_root_and_gains_nothing(insecure: bool) -> None:
    spec = with_chroot(sandbox(insecure=insecure))

    sets = spec.process.capabilities
    held = {*sets.bounding, *sets.effective, *sets.permitted, *sets.inheritable, *sets.ambient}
    assert "CAP_CHOWN" in held
    assert not held & {"CAP_SYS_CHROOT", "CAP_MKNOD"}
    assert spec.process.no_new_privileges


def test_docker_s_profile_stays() -> None:
    assert with_chroot(sandbox()).linux.seccomp == sandbox().linux.seccomp


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"mounts": [laid("/c")]}, "a mount at /c"),
        ({"mounts": [specs.Tmpfs(target="/t")]}, "a mount at /t"),
        ({"mounts": [specs.SecretFile(target="/s", name="s")]}, "a mount at /s"),
        ({"mounts": [specs.Tmpfs(target="/dev/shm")]}, "a mount at /dev/shm"),
        ({"mounts": [specs.Tmpfs(target="/dev")]}, "a mount at /dev"),
        ({"mounts": [laid("/etc/hosts"), laid("/etc/hosts")]}, "a mount at /etc/hosts"),
        ({"network": "none"}, "a network other than the one around it"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(more: dict[str, Any], named: str) -> None:
    with pytest.raises(BuildError, match=f"--isolation chroot cannot give a step {named}"):
        with_chroot(sandbox(**more))
