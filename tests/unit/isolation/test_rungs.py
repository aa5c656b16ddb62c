"""The ladder: what is told of a rung, and when full isolation is refused."""

from __future__ import annotations

import pytest

from builder.errors import SandboxError
from builder.isolation.rungs import (
    CHROOT,
    COPY,
    ROOT,
    SINGLE_UID,
    USERNS,
    Isolation,
    require_full,
    weakenings,
)


@pytest.mark.parametrize("rung", [ROOT, USERNS])
def test_a_rung_that_lacks_nothing_is_told_in_no_line(rung: str) -> None:
    assert weakenings(Isolation(rung)) == ()
    require_full(Isolation(rung), host_network=False)


@pytest.mark.parametrize(
    ("isolation", "word"),
    [
        (Isolation(SINGLE_UID), "one id"),
        (Isolation(CHROOT), "chroot"),
        (Isolation(USERNS, outer_hostname=True), "host name"),
        (Isolation(USERNS, outer_proc=True), "/proc"),
        (Isolation(ROOT, snapshotter=COPY), "overlayfs"),
    ],
)
def test_each_thing_that_is_lacking_is_one_line_and_refused_where_full_isolation_is_asked_for(
    isolation: Isolation, word: str
) -> None:
    (weakening,) = weakenings(isolation)

    assert word in weakening.line
    with pytest.raises(SandboxError, match=word):
        require_full(isolation, host_network=False)


def test_full_isolation_means_no_host_network() -> None:
    with pytest.raises(SandboxError, match="network"):
        require_full(Isolation(ROOT), host_network=True)
