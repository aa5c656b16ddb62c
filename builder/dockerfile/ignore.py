"""`.dockerignore`: patterns to a predicate over the paths of a context.

A pattern decides for what it matches and for all below it; of several the last one counts. The finer
point is the reference builder's (moby/patternmatcher, walking from folder to folder): a line that changes
nothing for a folder is not remembered for what is below it. So `a/x` then `!a` leaves `a/x` out, since the
folder `a` was never out. What a folder hands down is thus one number: the line that last changed its state.

No pattern can blow up: each becomes a regular expression in which every part that was found stays found
(atomic groups). All of them are one alternation, but for those like `**/*.pyc`, which are a second one, asked
about the last name only. A class such as `[^x]` matches a slash only where no star is with it.

The reference builder hands escapes and classes to Go's regexp package, which shows: `\\d` is a digit, `\\n` a
newline, `\\o` an error and `[[:alpha:]]` a letter (pkg.go.dev/regexp/syntax). So it is here.

Cached path: it imports nothing but `re` and the errors, and never touches a file.
"""

from __future__ import annotations

import re

from builder.dockerfile.blanks import SPACE
from builder.errors import DockerfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

WILD = re.compile(r"[*?\[\\]")
MAX_LINE = 64 * 1024
MAX_GLUED = 3  # `**` in the middle of a name, for which both readings are tried

# What a backslash and a letter mean. Other letters and digits mean nothing, but for the rare KEPT.
CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
SETS = {
    "d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r ", "D": r"\x00-/:-\U0010ffff",
    "W": r"\x00-/:-@\[-\^`{-\U0010ffff", "S": r"\x00-\x08\x0b\x0e-\x1f!-\U0010ffff",
}  # fmt: skip
KEPT = "ABCPQbpxz01234567"
POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "digit": "0-9",
    "cntrl": r"\x00-\x1f\x7f", "graph": "!-~", "lower": "a-z", "print": " -~", "space": r"\t-\r ",
    "punct": r"!-/:-@\[-`{-~", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
NAMED = re.compile(r"\[:([a-z]+):\]|\\([dwsDWS])")

# The kinds of tokens. One character, any character, a run within a name, and the three forms of `**`.
CHAR, STAR, FOLDERS, GLUED, REST = "char", "*", "**/", "a**", "**"
NO_SLASH = "(?!/)"


class Pattern:
    """One line: what it matches, and whether it takes paths back in (`keeps`)."""

    __slots__ = ("_compiled", "by_name", "keeps", "line", "regex", "stem", "text")

    def __init__(self, text: str, *, keeps: bool, line: int) -> None:
        self.text = text
        self.keeps = keeps
        self.line = line
        wild = WILD.search(text)
        # What all matches start with; the whole pattern if there is nothing wild in it.
        self.stem = text[: wild.start()] if wild else text
        # `**/name` looks at last names only.
        self.by_name = text.startswith("**/") and "/" not in text[3:] and "**" not in text[3:]
        self.regex = _translate(text[3:] if self.by_name else text)
        self._compiled: re.Pattern[str] | None = None

    def matches(self, path: str) -> bool:
        """Whether it matches this path itself, parents left out."""
        if self._compiled is None:
            self._compiled = re.compile(self.regex, re.DOTALL)
        return self._compiled.match(path, path.rfind("/") + 1 if self.by_name else 0) is not None

    def reaches_into(self, folder: str) -> bool:
        """Whether it could match something below the folder."""
        below = folder + "/"
        if self.stem == self.text:
            return self.stem.startswith(below)
        return self.stem.startswith(below) or below.startswith(self.stem)


class Ignore:
    """The patterns of one file. Paths are relative to the context, with slashes and no `./`."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.patterns = patterns
        self._decided: dict[str, int] = {}
        self._by_path = _Alternation(patterns, by_name=False)
        self._by_name = _Alternation(patterns, by_name=True)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def excludes(self, path: str) -> bool:
        """Whether the path is left out."""
        number = self._deciding(path)
        return number >= 0 and not self.patterns[number].keeps

    def which(self, path: str) -> int:
        """The number of the line that decides for the path, 0 if none does."""
        number = self._deciding(path)
        return self.patterns[number].line if number >= 0 else 0

    def prunes(self, folder: str) -> bool:
        """Whether the folder is left out and nothing below it can come back."""
        number = self._handed_down(folder)
        if number < 0 or self.patterns[number].keeps:
            return False
        later = self.patterns[number + 1 :]
        return not any(pattern.keeps and pattern.reaches_into(folder) for pattern in later)

    def _deciding(self, path: str) -> int:
        """The number of the last pattern that matches the path or was handed down, -1 if none."""
        inherited = self._handed_down(path[: path.rfind("/")]) if "/" in path else -1
        name = path.rfind("/") + 1
        return max(inherited, self._by_path.last(path, 0), self._by_name.last(path, name))

    def _handed_down(self, folder: str) -> int:
        """The number of the pattern that put the folder into its state, -1 if none."""
        known = self._decided.get(folder)
        if known is not None:
            return known
        number, end = -1, 0
        while end < len(folder):
            end = folder.find("/", end + 1)
            if end < 0:
                end = len(folder)
            parent = folder[:end]
            known = self._decided.get(parent)
            number = self._turned_by(parent, number) if known is None else known
            self._decided[parent] = number
        return number

    def _turned_by(self, folder: str, inherited: int) -> int:
        name = folder.rfind("/") + 1
        if max(self._by_path.last(folder, 0), self._by_name.last(folder, name)) <= inherited:
            return inherited
        out = inherited >= 0 and not self.patterns[inherited].keeps
        number = inherited
        for later in range(inherited + 1, len(self.patterns)):
            pattern = self.patterns[later]
            if pattern.keeps == out and pattern.matches(folder):
                out, number = not out, later
        return number


class _Alternation:
    """Some of the patterns as one."""

    __slots__ = ("_any", "_last", "_numbers", "_regexes")

    def __init__(self, patterns: tuple[Pattern, ...], *, by_name: bool) -> None:
        self._numbers = [n for n, pattern in enumerate(patterns) if pattern.by_name == by_name]
        self._regexes = [patterns[n].regex for n in self._numbers]
        self._any: re.Pattern[str] | None = None
        self._last: re.Pattern[str] | None = None

    def last(self, path: str, start: int) -> int:
        """The number of the last pattern that matches the path from `start` on, -1 if none."""
        if not self._regexes:
            return -1
        if self._any is None:
            self._any = re.compile("|".join(self._regexes), re.DOTALL)
        if self._any.match(path, start) is None:
            return -1
        # Groups cost time, so only a path that matches is asked which one it was.
        if self._last is None:
            self._last = re.compile("|".join(f"({regex})" for regex in reversed(self._regexes)), re.DOTALL)
        match = self._last.match(path, start)
        return self._numbers[-match.lastindex] if match and match.lastindex else -1


def parse(text: str, name: str) -> Ignore:
    """Read the text of an ignore file. Raises DockerfileError, placed, for a pattern that is none."""
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if len(line) >= MAX_LINE:
            _refuse(text, name, number, f"the line is longer than {MAX_LINE - 1} characters")
        try:
            pattern = _read(line, number)
        except (ValueError, re.error) as error:
            _refuse(text, name, number, f"{line.strip(SPACE)!r} is no pattern: {error}")
        if pattern is not None:
            patterns.append(pattern)
    return Ignore(tuple(patterns))


def _read(line: str, number: int) -> Pattern | None:
    if line.startswith("#"):
        return None
    text = line.strip(SPACE)
    if not text:
        return None
    if CONTROL.search(text):
        raise ValueError("there is a control character in it; lines end in \\n or \\r\\n")
    path = _clean(text)
    if text.startswith("!"):
        text = text[1:].strip(SPACE)
        path = _clean(text)
        if path or text.startswith("/") or not text:
            path = _clean("!" + path)  # so that `!../../a` is `a`, as in the reference builder
    keeps = path.startswith("!")  # `/!a` is `!a`
    path = path.removeprefix("!")
    if keeps and not path:
        raise ValueError("there is nothing behind the exclamation mark")
    return Pattern(path, keeps=keeps, line=number) if path else None


def _clean(path: str) -> str:
    """The path without `.`, `..`, doubled and outer slashes; "" for the context itself."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == "..":
            if not path.startswith("/"):
                parts.append(part)
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _refuse(text: str, name: str, line: int, message: str) -> NoReturn:
    from builder.text import Location, SourceText, Span

    location = Location(SourceText(name, text), Span(line))
    raise DockerfileError(f"{name}:{line}: {message}", code="bad-ignore-pattern", location=location)


def _translate(pattern: str) -> str:
    """A regular expression for the whole of a path. Raises ValueError."""
    if not WILD.search(pattern):
        return re.escape(pattern) + r"\Z"
    end = pattern[2:]
    if pattern.startswith("**") and end and not end.startswith("/") and not WILD.search(end):
        return "(?:.*)" + re.escape(end) + r"\Z"  # `**x` alone is any path that ends so
    return "|".join(f"(?:{_regex(reading)})" for reading in _readings(_tokens(pattern)))


Token = tuple[str, str]


def _tokens(pattern: str) -> list[Token]:
    """(kind, regular expression): one token for each wildcard and each character."""
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            kind = FOLDERS if at == 0 or pattern[at - 1] == "/" else GLUED
            at += 3 if pattern.startswith("**/", at) else 2
            if at >= len(pattern):
                tokens.append((REST, ""))
            elif not tokens or tokens[-1][0] not in (FOLDERS, GLUED):
                tokens.append((kind, ""))
        elif char == "[":
            end, text = _class(pattern, at)
            tokens.append((CHAR, text))
            at = end
        elif char == "\\":
            if at + 1 == len(pattern):
                raise ValueError("there is nothing behind the backslash")
            tokens.append((CHAR, _escaped(pattern[at + 1])))
            at += 2
        else:
            text = "" if char == "*" else "[^/]" if char == "?" else re.escape(char)
            tokens.append((STAR if char == "*" else CHAR, text))
            at += 1
    if all(kind == CHAR for kind, _ in tokens):
        return [(kind, text.removeprefix(NO_SLASH)) for kind, text in tokens]
    return tokens


def _escaped(char: str) -> str:
    """A regular expression for what a backslash and this character mean outside of a class."""
    if char in SETS:
        return f"[{SETS[char]}]"
    return re.escape(_named(char))


def _named(char: str) -> str:
    """The one character that it names behind a backslash."""
    if char in CONTROLS:
        return CONTROLS[char]
    if char not in KEPT and (char.isalnum() or not char.isascii()):
        raise ValueError(f"the backslash before {char!r} means nothing")
    return char


def _class(pattern: str, start: int) -> tuple[int, str]:
    """Where `[a-z]` ends, and its regular expression."""
    at = start + 1
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", at)):
        if (named := NAMED.match(pattern, at)) and (named[2] or named[1] in POSIX):
            ranges.append(SETS[named[2]] if named[2] else POSIX[named[1]])
            at = named.end()
            continue
        at, low = _class_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            at, high = _class_char(pattern, at + 1)
        if low > high:
            raise ValueError(f"the range {low}-{high} runs backward")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return at + 1, f"{NO_SLASH}[{'^' if negated else ''}{''.join(ranges)}]"


def _class_char(pattern: str, at: int) -> tuple[int, str]:
    escaped = pattern.startswith("\\", at)
    char = pattern[at + escaped : at + escaped + 1]
    if not char:
        raise ValueError("a bracket is not closed")
    if not escaped and char in "-]":
        raise ValueError("the brackets do not hold characters and ranges")
    return at + escaped + 1, _named(char) if escaped else char


def _readings(tokens: list[Token]) -> list[list[Token]]:
    """The pattern with each glued `**` (`a**b`) once as nothing and once as any folders.

    Behind a slash the nearest match of what follows `**` is always right; behind a name it is not.
    """
    readings: list[list[Token]] = [[]]
    glued = 0
    for token in tokens:
        if token[0] == GLUED:
            glued += 1
            if glued > MAX_GLUED:
                raise ValueError(f"more than {MAX_GLUED} times ** next to a name")
            readings += [[*reading, token] for reading in readings]
        else:
            for reading in readings:
                reading.append(token)
    return readings


def _regex(tokens: list[Token]) -> str:
    """What follows a wildcard is taken where it is found first, and kept: `(?>wildcard part)`.

    A part behind a star reaches to the next wildcard, one behind `**/` to the next `**`.
    """
    out = ""
    folders = name = False  # whether a group of the one and of the other kind is open
    for kind, text in tokens:
        if kind == CHAR:
            out += text
            continue
        out += ")" if name else ""
        name = kind == STAR
        if kind == STAR:
            out += "(?>[^/]*?"
            continue
        out += ")" if folders else ""
        folders = kind != REST
        if folders:
            out += "(?>" + ("[^/]*/" if kind == GLUED else "") + "(?:[^/]*/)*?"
    if tokens[-1][0] != REST:
        out += r"\Z"
    return out + ")" * (name + folders)
