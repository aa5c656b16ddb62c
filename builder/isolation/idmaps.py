"""Which ids a user may have in a user namespace: /etc/subuid and /etc/subgid, and lines of uid_map. Pure.

See subuid(5), newuidmap(1) and user_namespaces(7).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Range = tuple[int, int]  # first id outside, how many
    Row = tuple[int, int, int]  # first id inside, first outside, how many

_HIGHEST = (1 << 32) - 2


def subordinate_ranges(text: str, names: Iterable[str]) -> list[Range]:
    """The ranges that /etc/subuid's text gives to a user, who is known by name and number."""
    wanted, found = set(names), []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in wanted and fields[1].isdecimal() and fields[2].isdecimal():
            first, count = int(fields[1]), int(fields[2])
            if count > 0 and first + count - 1 <= _HIGHEST:
                found.append((first, count))
    return found


def rows_of(own: int, ranges: Iterable[Range]) -> list[Row]:
    """0 inside is the user, 1 and on are the ranges one after another."""
    rows, inside = [(0, own, 1)], 1
    for first, count in ranges:
        rows.append((inside, first, count))
        inside += count
    return rows


def identity_rows(rows: Iterable[Row]) -> list[Row]:
    """A namespace in one that has `rows`, with the same ids as that."""
    return [(inside, inside, count) for inside, _, count in rows]


def count_of(rows: Iterable[Row]) -> int:
    """How many ids a map has."""
    return sum(count for _, _, count in rows)


def as_arguments(rows: Iterable[Row]) -> list[str]:
    """The words for newuidmap(1) after the process id."""
    return [str(number) for row in rows for number in row]


def as_text(rows: Iterable[Row]) -> str:
    """What is written to uid_map."""
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
