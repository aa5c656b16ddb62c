"""What a wrong name may have meant, for the first few findings: comparing names takes time. Pure."""

from __future__ import annotations

from collections.abc import Collection

from builder.compiler.nearest import meant

MAX_HINTS = 30
MAX_NAMES = 500


class Hints:
    """The hints of one file, as many as there may be."""

    def __init__(self) -> None:
        self.left = MAX_HINTS

    def near(self, name: str, known: Collection[str]) -> str:
        """` (did you mean NAME?)`, or ""."""
        if self.left == 0 or len(known) > MAX_NAMES:
            return ""
        self.left -= 1
        hint = meant(name, known)
        return f" ({hint})" if hint else ""
