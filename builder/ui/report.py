"""What is said when a build is over: the warnings, and the closing line.

Pure: events to text. On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

from builder.ui.words import clean, one_line, plural, seconds, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.events import BuildFinished, Removed, Warned


MAX_WARNINGS = 50


def closing_line(event: BuildFinished, *, digest_length: int = 64) -> str:
    """`built app:1.0 sha256:… (12.3 MB) in 4.2s, 5 of 12 steps cached`."""
    parts = ["built", ", ".join(one_line(name) for name in event.names)]
    if event.image:
        parts += [event.image[: len("sha256:") + digest_length], f"({size(event.size)})"]
    parts.append(f"in {seconds(event.seconds)}, {cached_share(event.cached, event.steps)}")
    return " ".join(part for part in parts if part)


def removed_lines(removed: Sequence[Removed]) -> list[str]:
    """What made room, and why, a line for each reason: `room: 12 items, 1.20 GB, were removed: ...`."""
    sums: dict[tuple[str, int, int], list[int]] = {}
    for event in removed:
        sums.setdefault((event.reason, event.had, event.bound), []).append(event.size)
    lines = []
    for why, sizes in sums.items():
        verb = "was" if len(sizes) == 1 else "were"
        lines.append(
            f"room: {plural(len(sizes), 'item')}, {size(sum(sizes))}, {verb} removed: {reason_words(*why)}"
        )
    return lines


def reason_words(reason: str, had: int, bound: int) -> str:
    """Why something was removed, in words; the numbers are bytes, or seconds for what was not used."""
    match reason:
        case "max-used":
            return f"the cache had {size(had)}, and may have {size(bound)}"
        case "min-free":
            return f"{size(had)} of the disk were free, and {size(bound)} are to be"
        case "reserved":
            return f"the cache had {size(had)}, and {size(bound)} are kept"
        case "unused":
            days = bound // 86400
            return f"not used for {plural(days, 'day') if days else seconds(bound)}"
        case "unreferenced":
            return "nothing refers to it"
    return "asked for"


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
