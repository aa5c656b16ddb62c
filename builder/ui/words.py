"""How sizes, times and foreign text are written for people.

Everything that comes from a Dockerfile, an image, a registry or a step's output goes through `clean`
before it reaches a terminal: what is left cannot move the cursor, change colours or titles, or turn the
direction of the text. On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB")


def clean(text: str) -> str:
    """One line of foreign text, harmless: escape sequences dropped, other invisible characters shown.

    Of a line that was overwritten (carriage returns, as progress bars have them) the last state is kept.
    """
    if text.isprintable():
        return text
    import re

    text = text.rstrip("\r\n")
    if "\r" in text:
        text = text.rpartition("\r")[2]
    # ECMA-48: CSI, the string sequences (OSC, DCS, SOS, PM, APC) up to their terminator, then the short ones.
    text = re.sub(
        r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
        r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
        r"|\x1b[ -/]*[0-~]?",
        "",
        text,
    )
    return "".join(mark if mark.isprintable() else _shown(mark) for mark in text.expandtabs())


def one_line(text: str) -> str:
    """Foreign text of several lines (a label with a heredoc) as one harmless line."""
    return clean(" ".join(text.split())) if not text.isprintable() else text


def _shown(mark: str) -> str:
    if mark in ("\u00a0", "\u202f", "\u3000") or (
        mark.isspace() and mark not in "\x1c\x1d\x1e\x1f\x85\u2028\u2029"
    ):
        return " "
    code = ord(mark)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def size(count: int) -> str:
    """Bytes in decimal units: 999 B, 1.50 kB, 12.3 MB."""
    value = float(count)
    for unit in UNITS:
        if value < 999.5 or unit == UNITS[-1]:
            break
        value /= 1000
    if unit == "B":
        return f"{count} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def transfer(done: int, total: int, unit: str) -> str:
    """How far a transfer is: `12.3 MB / 48.0 MB`, or what was done where the total is unknown."""
    if unit == "B":
        return f"{size(done)} / {size(total)}" if total else size(done)
    return f"{done} / {total} {unit}" if total else f"{done} {unit}"


def seconds(value: float) -> str:
    """A duration: 0.4s, 59.9s, 2m05s, 1h02m."""
    if value < 59.95:
        return f"{max(0.0, value):.1f}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def plural(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
