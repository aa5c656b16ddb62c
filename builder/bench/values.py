"""What a bench finds, as values: cases, what they took, and what is proposed. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

KINDS = COLD, UNCHANGED, PART, ARGUMENT, PROPOSED = ("cold", "unchanged", "part", "argument", "proposed")


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step that ran: its text, its stage, its line in the Dockerfile (0: none), its seconds."""

    text: str
    stage: str
    line: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Timing:
    """One build: the command's seconds, how many steps it has, those that ran; why it failed, or ""; the
    digest of its image."""

    seconds: float
    steps: int
    ran: tuple[StepRun, ...] = ()
    error: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What was built: `kind` is COLD, UNCHANGED, PART, ARGUMENT (another value of a build argument) or
    PROPOSED (in that order).

    file: the one that was changed; timings: one per round; predicted: nothing was built, the one timing is
    worked out.
    """

    name: str
    kind: str
    timings: tuple[Timing, ...]
    file: str = ""
    predicted: bool = False

    @property
    def seconds(self) -> float:
        """The median of the rounds."""
        return statistics.median(timing.seconds for timing in self.timings)

    @property
    def error(self) -> str:
        """Why a round failed, "" where none did."""
        return next((timing.error for timing in self.timings if timing.error), "")

    @property
    def last(self) -> Timing:
        """The last round, whose steps are told; the one that failed, if one did."""
        return next((timing for timing in self.timings if timing.error), self.timings[-1])

    @property
    def hit_rate(self) -> float:
        """The share of steps that came from the cache; 1 where there are no steps."""
        timing = self.last
        return 1 - len(timing.ran) / timing.steps if timing.steps else 1.0


@dataclass(frozen=True, slots=True)
class Saving:
    """What changes in a part would cost with what is proposed so far, and with this too; in seconds."""

    part: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change of the Dockerfile's order. lines: those of the original that it is about."""

    text: str
    lines: tuple[int, ...]
    savings: tuple[Saving, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """All that a bench found. proposed: the Dockerfile in the order that would do better, "" for none.

    notes: what else a person should know; whole: it was not interrupted.
    """

    context: str
    dockerfile: str
    rounds: int
    cases: tuple[Case, ...] = ()
    ignored: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    proposed: str = ""
    notes: tuple[str, ...] = ()
    whole: bool = True
