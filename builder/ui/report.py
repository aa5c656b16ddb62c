"""What is said when a build is over: the warnings, and the closing line.

Pure: events to text. On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

from builder.ui.words import clean, one_line, plural, seconds, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.events import BuildFinished, Warned


MAX_WARNINGS = 50


def closing_line(event: BuildFinished, *, digest_length: int = 64) -> str:
    """`built app:1.0 sha256:… (12.3 MB) in 4.2s, 5 of 12 steps cached`."""
    parts = ["built", ", ".join(one_line(name) for name in event.names)]
    if event.image:
        parts += [event.image[: len("sha256:") + digest_length], f"({size(event.size)})"]
    parts.append(f"in {seconds(event.seconds)}, {cached_share(event.cached, event.steps)}")
    return " ".join(part for part in parts if part)


def cached_share(cached: int, steps: int) -> str:
    """`5 of 12 steps cached`."""
    if steps and cached == steps:
        return f"all {plural(steps, 'step')} cached" if steps > 1 else "its 1 step cached"
    return f"{cached} of {plural(steps, 'step')} cached"


def warning_lines(warnings: Sequence[Warned]) -> list[str]:
    """The warnings as lines, with where they are in the Dockerfile and what stands there; equal ones once."""
    lines = []
    told = list(dict.fromkeys((w.rule, w.message, w.line, w.excerpt) for w in warnings))
    shown = told[:MAX_WARNINGS]
    for number, (rule, message, line, excerpt) in enumerate(shown, 1):
        place = f" (line {line})" if line else ""
        lines.append(f"- {rule + ': ' if rule else ''}{one_line(message)}{place}")
        if number == len(shown) or shown[number][2:] != (line, excerpt):  # one excerpt for all of a place
            lines += excerpt_lines(line, excerpt)
    if len(told) > len(shown):
        lines.append(f"- {len(told) - len(shown)} more, which --check shows")
    return [f"{plural(len(told), 'warning')}:", *lines] if lines else []


def excerpt_lines(first: int, excerpt: Sequence[str]) -> list[str]:
    """Lines of a file with their numbers; "…" stands for more of them."""
    return [
        f"{'' if text == '…' else number:>6} | {clean(text)}".rstrip()
        for number, text in enumerate(excerpt, first)
    ]
