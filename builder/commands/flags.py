"""Flags: what a command line may hold, and how it is read.

The rules are those of docker's commands: `--name value`, `--name=value`, `-n value`, `-nvalue`,
`-n=value`, switches joined as in `-qt NAME`, `--switch=false`, flags and words in any order, `--` ends
the flags, `-` is a word. Every mistake is a UsageError that names the nearest flag.
On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

from builder.errors import UsageError
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class Flag(Value):
    """One flag. kind: "switch", "text" (the last one wins) or "list" (all count).

    group: the heading under which help shows it; "" hides it.
    """

    name: str
    short: str = ""
    kind: str = "text"
    metavar: str = ""
    help: str = ""
    group: str = ""


class Command(Value):
    """A subcommand: its flags, what it does, and what its help says of it."""

    flags: tuple[Flag, ...]
    run: Callable[[Parsed, Mapping[str, str]], int]
    usage: str
    about: str
    closing: str = ""


class Parsed:
    """What a command line held: its words, those of them that came behind `--` again, and the flags given."""

    __slots__ = ("behind", "given", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.behind: list[str] = []
        self.given: dict[str, list[str]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def text(self, name: str, default: str = "") -> str:
        """The value of the last such flag."""
        return self.given[name][-1] if name in self.given else default

    def all(self, name: str) -> list[str]:
        """The values of all such flags; empty ones count as not given, as docker has it."""
        return [value for value in self.given.get(name, ()) if value]

    def switch(self, name: str) -> bool:
        """Whether the switch is on. Raises UsageError where its value is neither true nor false."""
        value = self.text(name, "false")
        if value in TRUE:
            return True
        if value in FALSE:
            return False
        raise UsageError(f"--{name}={value}: a switch is true or false")


def parse(flags: Iterable[Flag], argv: Sequence[str]) -> Parsed:
    """Read `argv` (without the command itself). Raises UsageError."""
    long = {flag.name: flag for flag in flags}
    short = {flag.short: flag for flag in long.values() if flag.short}
    parsed = Parsed()
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--":
            parsed.behind = rest[::-1]
            parsed.words.extend(parsed.behind)
            break
        if word.startswith("--"):
            _take_long(long, word, rest, parsed)
        elif len(word) > 1 and word.startswith("-"):
            _take_short(short, word, rest, parsed)
        else:
            parsed.words.append(word)
    return parsed


def _take_long(long: dict[str, Flag], word: str, rest: list[str], parsed: Parsed) -> None:
    name, has_value, value = word[2:].partition("=")
    flag = long.get(name)
    if flag is None:
        offered = [f"--{known.name}" for known in long.values() if known.group]
        raise UsageError(f"unknown flag --{name}", hint=nearest(f"--{name}", offered))
    _store(flag, f"--{name}", value if has_value else None, rest, parsed)


def _take_short(short: dict[str, Flag], word: str, rest: list[str], parsed: Parsed) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = short.get(letter)
        if flag is None:
            raise UsageError(f"unknown flag -{letter}" + (f" in {word}" if len(word) > 2 else ""))
        if letters.startswith("="):
            _store(flag, f"-{letter}", letters[1:], rest, parsed)
            return
        if flag.kind != "switch" and letters:
            _store(flag, f"-{letter}", letters, rest, parsed)
            return
        _store(flag, f"-{letter}", None, rest, parsed)


def _store(flag: Flag, typed: str, value: str | None, rest: list[str], parsed: Parsed) -> None:
    """Keep a flag's value; one that was not joined to the flag is the next word, but for a switch."""
    if value is None:
        if flag.kind == "switch":
            value = "true"
        elif rest:
            value = rest.pop()
        else:
            raise UsageError(f"{typed} needs a value" + (f": {typed} {flag.metavar}" if flag.metavar else ""))
    parsed.given.setdefault(flag.name, []).append(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint that names what was probably meant."""
    import difflib  # only for a mistake

    near = difflib.get_close_matches(word, sorted(known), 2, 0.6)
    return f"did you mean {' or '.join(near)}?" if near else None
