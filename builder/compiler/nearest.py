"""The nearest name: what somebody may have meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

MOST = 100  # names; among more nobody looks for a mistake, and each name of a large file asks for all of them
LONGEST = 64  # characters of a name that may be mistyped


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that is fewest edits away from `name`, or None where none is near (case is ignored).

    Also None among more than `MOST` options, and for a name of more than `LONGEST` characters.
    """
    if len(name) > LONGEST:
        return None
    few = list(islice(options, MOST + 1))
    if len(few) > MOST:
        return None
    wanted = name.lower()
    best: str | None = None
    fewest, letters = len(wanted) // 3 + 1, set(wanted)
    for option in sorted(set(few)):
        if not option or abs(len(option) - len(wanted)) > fewest:
            continue
        if len(letters.difference(option.lower())) > fewest:  # each takes an edit at least
            continue
        edits = distance(wanted, option.lower())
        if edits <= fewest and (edits < fewest or best is None) and edits < max(len(wanted), len(option)):
            best, fewest = option, edits
    return best


def meant(name: str, options: Iterable[str]) -> str | None:
    """A hint that names the nearest option, or None."""
    near = nearest(name, options)
    return f"did you mean {near}?" if near else None


def distance(one: str, other: str) -> int:
    """The edits (insert, delete, replace, swap neighbours) that turn one text into the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row, older = row, [i], before
        for j, right in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]
