"""Which flags an instruction takes, and what they may hold. Pure.

Every instruction of a Dockerfile is checked, used or not, before anything else happens: a flag nobody
knows is an error also in a stage that nothing needs. ARG, STOPSIGNAL and MAINTAINER have no flags and
do not look at them (as BuildKit does).
"""

from __future__ import annotations

from builder.compiler.nearest import meant
from builder.compiler.places import fault, place
from builder.dockerfile.ast import AnyInstruction, Flag
from builder.text import SourceText

BOOLEAN, TEXT, TEXTS = "boolean", "text", "texts"
NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")

KNOWN: dict[str, dict[str, str]] = {
    "FROM": {"platform": TEXT},
    "RUN": {"mount": TEXTS, "network": TEXT, "security": TEXT, "device": TEXTS},
    "COPY": {
        "chown": TEXT, "chmod": TEXT, "from": TEXT, "link": BOOLEAN, "exclude": TEXTS, "parents": BOOLEAN,
    },
    "ADD": {
        "chown": TEXT, "chmod": TEXT, "link": BOOLEAN, "keep-git-dir": BOOLEAN, "checksum": TEXT,
        "unpack": BOOLEAN, "exclude": TEXTS,
    },
    "HEALTHCHECK": {
        "interval": TEXT, "timeout": TEXT, "start-period": TEXT, "start-interval": TEXT, "retries": TEXT,
    },
}  # fmt: skip
UNCHECKED = frozenset({"ARG", "STOPSIGNAL"})


def check_flags(step: AnyInstruction, source: SourceText) -> None:
    """Raise DockerfileError where an instruction has a flag that it cannot have."""
    if step.keyword in UNCHECKED:
        return
    known = KNOWN.get(step.keyword, {})
    seen: set[str] = set()
    for flag in step.flags:
        kind = known.get(flag.name)
        if kind is None:
            raise fault(
                place(source, step, flag.span),
                f"{step.keyword} has no flag --{flag.name}",
                code="unknown-flag",
                hint=meant(flag.name, known),
            )
        if flag.name in seen and kind != TEXTS:
            raise fault(place(source, step, flag.span), f"--{flag.name} is given twice", code="bad-flag")
        seen.add(flag.name)
        problem = _problem(flag, kind)
        if problem:
            raise fault(place(source, step, flag.span), f"--{flag.name} {problem}", code="bad-flag")


def _problem(flag: Flag, kind: str) -> str | None:
    if kind == BOOLEAN:
        if flag.value == "":
            return "has an empty value"
        if flag.value is not None and flag.value.lower() not in ("true", "false"):
            return f"is true or false, not {flag.value!r}"
        return None
    if flag.value is None:
        return "needs a value"
    if flag.name == "network" and flag.value not in NETWORKS:
        return f"is one of {', '.join(NETWORKS)}, not {flag.value!r}"
    if flag.name == "security" and flag.value not in SECURITIES:
        return f"is one of {', '.join(SECURITIES)}, not {flag.value!r}"
    return None


def switch(step: AnyInstruction, name: str, *, default: bool = False) -> bool:
    """The value of a boolean flag; a bare one is true."""
    value = step.flag(name)
    return default if value is None else value.lower() != "false"


def texts(step: AnyInstruction, name: str) -> tuple[str, ...]:
    """The values of a flag that may be given several times, in order."""
    return tuple(flag.value or "" for flag in step.flags if flag.name == name)
