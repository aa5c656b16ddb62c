"""What a step finds: the order of its mounts."""

from __future__ import annotations

from builder.ops.exec import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from builder.stepfiles import sorted_by_depth

SECRET, AGENT = SecretMount(id="s", target="/b"), SshMount(id="a", target="/a")


def test_mounts_lie_by_depth_and_then_by_target_whatever_order_they_are_written_in() -> None:
    deep, high, low = TmpfsMount("/a/b"), CacheMount(id="", target="/b"), TmpfsMount("/a")
    for written in ((deep, high, low), (low, deep, high), (high, low, deep)):
        assert sorted_by_depth(written) == [low, high, deep]


def test_secrets_and_agents_lie_after_the_others_of_their_depth_as_they_are_written() -> None:
    folder = BindMount(1, "/", "/z")
    variable = SecretMount(id="v", target=None, env="V")
    assert sorted_by_depth([SECRET, AGENT, folder, variable]) == [variable, folder, SECRET, AGENT]


def test_the_last_mount_on_a_target_counts() -> None:
    assert sorted_by_depth([SECRET, TmpfsMount("/b/"), TmpfsMount("/b")]) == [TmpfsMount("/b")]
