"""The account of a build, as values: each step with its state, its reasons and its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builder.explain.history import Counterpart
from builder.explain.paths import HiddenBy
from builder.explain.reason import Reason
from builder.keyparts.sheet import Step

HIT, MISS, DEPENDS, FAILED, UNASKED = "hit", "miss", "depends", "failed", "unasked"
RUNS = (MISS, DEPENDS, FAILED)

# What became of a record. GONE: its layers are.
USABLE, ABSENT, GONE, UNSAFE = "usable", "absent", "gone", "unsafe"


@dataclass(frozen=True, slots=True)
class Finding:
    """A step of the account. number: as people know it, 0 of what is internal; seconds: those that it took or
    is likely to take, None where nobody knows, 0 where nothing is done."""

    number: int
    step: Step
    state: str
    reasons: tuple[Reason, ...] = ()
    depends: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """All steps, in topological order; path: the chain that takes longest, as indexes of `findings`; fetched:
    bytes that would come from caches elsewhere."""

    findings: tuple[Finding, ...]
    path: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    fetched: int = 0

    @property
    def shown(self) -> tuple[Finding, ...]:
        """Those that people are told of."""
        return tuple(found for found in self.findings if found.number)

    def count(self, state: str) -> int:
        """How many of those are in a state."""
        return sum(found.state == state for found in self.shown)

    def total(self) -> tuple[float, int]:
        """(seconds of all that runs, or may; how many of these nobody knows)."""
        running = [found for found in self.findings if found.state in RUNS]
        known = sum(found.seconds for found in running if found.seconds is not None)
        return known, sum(found.seconds is None and found.number > 0 for found in running)

    def critical(self) -> float:
        """The seconds of the path."""
        return sum(self.findings[at].seconds or 0.0 for at in self.path)


@dataclass(frozen=True, slots=True)
class Sources:
    """What an account is made of besides the history.

    states: vertex -> state; origins: vertex -> the vertices on whose output its key depends; condition: what
    became of the record of a key; recorded_seconds: what it says how long its making took; hidden: context ->
    what hides paths of it now; was_hidden: the same by a counterpart's ignore file; took: the seconds of what
    ran, where that is known; elsewhere: of hits whose record is in a cache elsewhere, that it is.
    """

    states: Mapping[str, str]
    origins: Mapping[str, tuple[str, ...]]
    condition: Callable[[str], str]
    recorded_seconds: Callable[[str], float | None]
    hidden: Callable[[str], HiddenBy]
    was_hidden: Callable[[Counterpart, str], HiddenBy]
    took: Mapping[str, float] | None = None
    elsewhere: Mapping[str, Reason] = field(default_factory=dict)
