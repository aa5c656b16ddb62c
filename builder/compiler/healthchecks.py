"""HEALTHCHECK as an image's config has it. Pure."""

from __future__ import annotations

from builder.dockerfile.ast import Healthcheck as Instruction
from builder.dockerfile.healthchecks import parse_interval, parse_retries
from builder.oci.spec import Healthcheck


def read_healthcheck(step: Instruction) -> Healthcheck:
    """The health check of an instruction; what its flags hold was looked at when it was parsed."""
    if step.command is None:
        return Healthcheck(test=("NONE",))
    kind = "CMD-SHELL" if step.command.shell else "CMD"
    return Healthcheck(
        test=(kind, *step.command.words),
        interval=parse_interval(step.flag("interval") or ""),
        timeout=parse_interval(step.flag("timeout") or ""),
        start_period=parse_interval(step.flag("start-period") or ""),
        start_interval=parse_interval(step.flag("start-interval") or ""),
        retries=parse_retries(step.flag("retries") or ""),
    )
