"""`--security-opt`, of docker's builder before BuildKit: what it would loosen stays as it is, and is told.

Steps have docker's default confinement; less of it is had step by step, with `RUN --security=insecure` and
`--allow security.insecure`. What would confine a step more is refused, as leaving it out would be a weaker
build than was asked for.
"""

from __future__ import annotations

from builder.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LOOSER = (
    *("apparmor=unconfined", "label=disable", "no-new-privileges=false", "seccomp=unconfined"),
    "systempaths=unconfined",
)
HINT = "`RUN --security=insecure` with --allow security.insecure lifts the confinement of a step"


def without_effect(values: Iterable[str]) -> tuple[str, ...]:
    """A warning for each that would loosen the steps' confinement. Raises UsageError for any other."""
    lines = []
    for value in values:
        if value.replace(":", "=", 1) not in LOOSER:
            raise UsageError(
                f"--security-opt {value}: steps cannot be confined otherwise than they are",
                hint="leave it out: they have docker's default profiles and capabilities",
            )
        lines.append(f"--security-opt {value} has no effect: {HINT}")
    return tuple(lines)
