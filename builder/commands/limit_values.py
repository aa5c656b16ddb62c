"""The flags that limit RUN steps: docker's names, units and bounds, to checked data.

`limits_of` raises UsageError with a message that names the flag. What the kernel here can hold of them is
found out by the build, when a step is to run. Loaded only where such a flag is given.
"""

from __future__ import annotations

import os
import re

from builder.commands.values import byte_size
from builder.errors import UsageError
from builder.request import StepLimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.commands.flags import Parsed

LEAST_MEMORY = 6 << 20  # bytes; docker's
PERIODS = range(1000, 1000001)  # microseconds, as the kernel has them
LEAST_QUOTA = 1000
PERIOD = 100000  # the kernel's, and what --cpus counts by
SHARES = range(2, 262145)
LONGEST_TIMEOUT = 365 * 86400.0
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:h|ms|m|s|us|µs|ns))+")
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)")
_SET = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})?(?:,[0-9]{1,18}(?:-[0-9]{1,18})?)*")
_CPUS_HERE, _NODES_HERE = "/sys/devices/system/cpu/online", "/sys/devices/system/node/online"


def limits_of(parsed: Parsed) -> StepLimits:
    """What the flags ask for."""
    memory, swap = _memory(parsed)
    period, quota = _quota(parsed)
    return StepLimits(
        memory=memory,
        memory_swap=swap,
        cpu_period=period,
        cpu_quota=quota,
        cpu_shares=_number(parsed, "cpu-shares", SHARES),
        cpuset_cpus=_cpuset(parsed, "cpuset-cpus", _CPUS_HERE),
        cpuset_mems=_cpuset(parsed, "cpuset-mems", _NODES_HERE),
        pids=_pids(parsed),
        cgroup_parent=_cgroup(parsed.text("cgroup-parent")),
        timeout=duration(parsed.text("step-timeout"), "--step-timeout"),
    )


def duration(text: str, flag: str) -> float:
    """Seconds of a duration as Go writes it ("90s", "1h30m", "500ms"); "" and "0" are none: 0."""
    if text in ("", "0"):
        return 0.0
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{flag} {text}: not a duration", hint="for example 90s, 10m or 1h30m")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST_TIMEOUT:
        raise UsageError(f"{flag} {text}: more than a year")
    return seconds


def _memory(parsed: Parsed) -> tuple[int, int]:
    text, swap_text = parsed.text("memory"), parsed.text("memory-swap")
    memory = byte_size(text, "--memory") if text else 0
    if 0 < memory < LEAST_MEMORY:
        raise UsageError(f"--memory {text}: the least is 6m")
    if swap_text == "-1":
        swap = -1
    else:
        swap = byte_size(swap_text, "--memory-swap") if swap_text else 0
    if swap and not memory:
        raise UsageError("--memory-swap needs --memory", hint="it counts memory and swap together")
    if 0 < swap < memory:
        raise UsageError(
            f"--memory-swap {swap_text}: less than --memory {text}", hint="it counts memory and swap together"
        )
    return memory, swap


def _quota(parsed: Parsed) -> tuple[int, int]:
    """(period, quota) in microseconds."""
    text = parsed.text("cpus")
    quota = _number(parsed, "cpu-quota", range(LEAST_QUOTA, 1 << 43), unlimited=True)
    period = _number(parsed, "cpu-period", PERIODS)
    if not text or not (cpus := _cpus(text)):
        return period, quota
    if quota or period:
        raise UsageError("--cpus cannot be used together with --cpu-period or --cpu-quota")
    return PERIOD, max(round(cpus * PERIOD), LEAST_QUOTA)


def _cpus(text: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+|[0-9]+\.", text):
        raise UsageError(f"--cpus {text}: not a number of processors", hint="for example 1.5")
    cpus, here = float(text), os.cpu_count() or 1
    if cpus and not 0.01 <= cpus <= here:
        told = "there is 1 processor" if here == 1 else f"there are {here} processors"
        raise UsageError(f"--cpus {text}: it can be from 0.01 to {here}, as {told} here")
    return cpus


def _pids(parsed: Parsed) -> int:
    return max(_number(parsed, "pids-limit", range(1, 1 << 22), unlimited=True), 0)


def _number(parsed: Parsed, name: str, allowed: range, *, unlimited: bool = False) -> int:
    """A whole number; 0 (and -1, where it means no limit) are none."""
    text = parsed.text(name)
    if text in ("", "0") or (unlimited and text == "-1"):
        return 0
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if number not in allowed:
        raise UsageError(f"--{name} {text}: not a number from {allowed.start} to {allowed.stop - 1}")
    return number


def _cpuset(parsed: Parsed, name: str, here: str) -> str:
    """A list like "0-2,4", of what this machine has."""
    text = parsed.text(name)
    if not text:
        return ""
    if not _SET.fullmatch(text):
        raise UsageError(f"--{name} {text}: not a list of numbers", hint="for example 0-2,4")
    try:
        with open(here, encoding="ascii") as file:
            available = file.read().strip()
    except OSError:
        return text  # the kernel will tell
    if not _members(text) <= _members(available):
        raise UsageError(f"--{name} {text}: this machine has {available}")
    return text


def _members(text: str) -> set[int]:
    """The numbers in a list; of a range that is too large for any machine only its ends."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        found.update(range(low, high + 1) if high - low < 1 << 16 else (low, high))
        if high < low:
            found.add(-1)
    return found


def _cgroup(text: str) -> str:
    """--cgroup-parent: a path below the mounted cgroups, or (relative) below the builder's own."""
    if not text:
        return ""
    parts = text.split("/")
    if ".." in parts or any(not mark.isprintable() for mark in text) or not text.strip("/."):
        raise UsageError(
            f"--cgroup-parent {text}: not the path of a cgroup", hint="for example /builds or builds"
        )
    path = "/".join(part for part in parts if part not in ("", "."))
    return f"/{path}" if text.startswith("/") else path
