"""--security-opt: told where it would loosen, refused where it would confine more."""

from __future__ import annotations

import pytest

from builder.commands.securityoptions import LOOSER, without_effect
from builder.errors import UsageError


@pytest.mark.parametrize("value", [*LOOSER, "seccomp:unconfined"])
def test_what_would_loosen_is_told_to_have_no_effect(value: str) -> None:
    (line,) = without_effect([value])

    assert value in line
    assert "security.insecure" in line


@pytest.mark.parametrize(
    "value",
    [
        "no-new-privileges",
        "no-new-privileges=true",
        "seccomp=profile.json",
        "apparmor=mine",
        "label=type:x_t",
        "",
    ],
)
def test_what_would_confine_more_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="security-opt"):
        without_effect(["seccomp=unconfined", value])
