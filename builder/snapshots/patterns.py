"""Path patterns, Go's filepath.Match and the lists of `.dockerignore` and `--exclude`, as regexes.

`glob` is one pattern for a whole path (COPY's sources): `*` and `?` stay within a name. `Patterns` is a
list in which `**` crosses folders, `!` takes back, what is said of a folder holds for all in it, and the
last pattern that matches decides (github.com/moby/patternmatcher). Stars become atomic groups where that
is the same, so that many stars cannot make a match take forever. Knows nothing of trees or files.

On the path of a fully cached build: re is all it loads, where there is a pattern.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

STAR, STARS = "*", "**"


class BadPattern(ValueError):
    """A pattern with an unclosed class, a lone `!`, a backslash at its end; in a list, a range backward."""


def has_wildcards(text: str) -> bool:
    """Whether a name is a pattern: an unescaped `*`, `?` or `[` is in it."""
    position = 0
    while position < len(text):
        if text[position] in "*?[":
            return True
        position += 2 if text[position] == "\\" else 1
    return False


def glob(pattern: str) -> re.Pattern[str]:
    """What matches whole paths as Go's filepath.Match does; raises BadPattern."""
    import re

    tokens = [STAR if token == STARS else token for token in _tokens(pattern)]
    return re.compile(_join(tokens) + r"\Z", re.DOTALL)


def may_cross(pattern: str) -> int:
    """How many `/` more than written a path that `glob(pattern)` matches can hold (classes take any)."""
    return pattern.count("[")


class Patterns:
    """A list of patterns for paths without a leading slash; raises BadPattern.

    `exceptions` tells whether a path below a matched folder can be taken back. With them, a pattern that
    changes nothing for a folder is not remembered for what is in it, as where the list is asked on a walk.
    """

    __slots__ = ("_any", "_folders", "_rules", "exceptions")

    def __init__(self, patterns: Iterable[str]) -> None:
        rules: list[tuple[str, bool]] = []
        for text in patterns:
            if not (text := text.strip()):
                continue
            text = clean(text)
            if text == "!":
                raise BadPattern("!")
            negated = text.startswith("!")
            rules.append((_translate(text[negated:]), negated))
        self.exceptions = any(negated for _, negated in rules)
        self._any: re.Pattern[str] | None = None
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        if rules:
            self._any, self._rules = _compiled(rules)
        self._folders: dict[str, tuple[bool, ...]] = {"": (False,) * len(rules)}

    def matches(self, path: str) -> bool:
        """Whether the last pattern that fits the path, or a folder that it is in, is no exception."""
        if not self.exceptions:
            return self._any is not None and self._any.match(path) is not None
        return self._any is not None and self._any.match(path) is not None and self._walked(path)[0]

    def _walked(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        """Whether the path is matched, and by which patterns as far as they were looked at."""
        folder = path.rpartition("/")[0]
        above = self._folders.get(folder)
        if above is None:
            above = self._folders[folder] = self._walked(folder)[1]
        matched = False
        by: list[bool] = []
        for (regex, negated), inherited in zip(self._rules, above, strict=True):
            fits = inherited or (negated == matched and regex.match(path) is not None)
            by.append(fits)
            if fits:
                matched = not negated
        return matched, tuple(by)


def _compiled(rules: list[tuple[str, bool]]) -> tuple[re.Pattern[str], list[tuple[re.Pattern[str], bool]]]:
    """What any of the patterns matches or has handed down, and each of them for itself."""
    import re

    one = "|".join(f"(?:{regex})" for regex, negated in rules if not negated) or "(?!)"
    any_of_them = re.compile(f"(?:{one})(?:/.*)?\\Z", re.DOTALL)
    return any_of_them, [(re.compile(regex + r"\Z", re.DOTALL), negated) for regex, negated in rules]


def clean(path: str) -> str:
    """The shortest equal path, as Go's path.Clean: `..` and `.` resolved by the text alone."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            parts.append(part)
        elif parts and parts[-1] != "..":
            parts.pop()
        elif not rooted:
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


def _translate(pattern: str) -> str:
    """One pattern of a list, without its `!`."""
    tokens = _tokens(pattern, backward=False)
    plain = not any(token in (STAR, STARS) or token[0] == "[" or len(token) > 2 for token in tokens[1:])
    if tokens[:1] == [STARS] and plain and "\\" not in pattern and not pattern.startswith("**/"):
        return ".*" + "".join(tokens[1:])  # `**name` alone means "ends in name"
    return _join(tokens)


def _tokens(pattern: str, *, backward: bool = True) -> list[str]:
    """The pattern in pieces: STAR, STARS (with a slash behind it eaten), or a regex for one character.

    backward: whether a range such as `z-a` is one, of nothing.
    """
    from re import escape

    tokens: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "*":
            stars = pattern[position : position + 2] == "**"
            tokens.append(STARS if stars else STAR)
            position += 1 + stars
        elif char == "?":
            tokens.append("[^/]")
            position += 1
        elif char == "[":
            token, position = _class(pattern, position + 1, backward=backward)
            tokens.append(token)
        else:
            if char == "\\":
                position += 1
                if position == len(pattern):
                    raise BadPattern(pattern)
            tokens.append(escape(pattern[position]))
            position += 1
    return tokens


def _class(pattern: str, position: int, *, backward: bool) -> tuple[str, int]:
    """The character class that starts behind `[`, and where it ends."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    first = True
    while first or not pattern.startswith("]", position):
        low, position = _member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
        if low > high and not backward:
            raise BadPattern(pattern)
        if low <= high:
            ranges.append(f"\\U{ord(low):08x}-\\U{ord(high):08x}")
        first = False
    if not ranges:
        return ("[\\s\\S]" if negated else "[^\\s\\S]"), position + 1
    return f"[{'^' if negated else ''}{''.join(ranges)}]", position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    """One character of a class, and where the next begins; a class cannot end right behind it unclosed."""
    if pattern.startswith("\\", position):
        position += 1
    elif pattern.startswith(("-", "]"), position):
        raise BadPattern(pattern)
    if position + 1 >= len(pattern):
        raise BadPattern(pattern)
    return pattern[position], position + 1


def _join(tokens: list[str]) -> str:
    """One regex. A stretch between stars that was found first is final where giving it back helps nobody."""
    pieces: list[str] = []
    wild, chunk = "", ""
    for following in [*tokens, ""]:
        if following not in (STAR, STARS, ""):
            chunk += following
            continue
        # What follows `**` can start at any folder, so an earlier end is as good, if at a folder's end.
        at_folder = following == STARS and chunk.endswith("/")
        if wild == STARS and not chunk and not following:
            pieces.append(".*")
        elif wild == STARS:
            body = "(?:.*?/)??" + chunk.removeprefix("/")
            pieces.append(f"(?>{body})" if at_folder and chunk != "/" else f"(?:{body})")
        elif wild == STAR:
            pieces.append(f"(?>[^/]*?{chunk})" if at_folder or following == STAR else f"[^/]*{chunk}")
        else:
            pieces.append(chunk)
        wild, chunk = following, ""
    return "".join(pieces)
