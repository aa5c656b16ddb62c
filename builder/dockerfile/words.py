"""Shell words: quotes, escapes and `${variables}`, given a mapping and nothing else.

The rules are those of docker's word lexer, which resembles a shell without being one: a backslash keeps
any next character, in double quotes only `"`, `$` and itself; nothing is special in single quotes; `$1`,
`$@` and the like are names; the word of `${name:-word}` is read whether or not it is used, so an error in
it is an error always. Parts that other modules need apart: `expand` for one word, `expand_words` where
blanks part the result, `expand_text` for text whose quotes are its own, `split_raw` for the words of a
line with nothing taken off.

Pure: it never knows which instruction it reads. What is not UTF-8 (surrogates of `surrogateescape`)
comes out as U+FFFD. Nesting and sizes are bounded, so no text can exhaust the stack or the memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from builder.dockerfile import patterns
from builder.dockerfile.blanks import SPACE

SPECIAL_NAMES = frozenset("@*#?-$!")
NOT_UTF8 = re.compile("[\ud800-\udfff]")
# What makes a text mean something else than it says, under each escape character.
MARKED = {escape: re.compile(f"[$'\"\ufeff\ud800-\udfff{re.escape(escape)}]") for escape in ("\\", "`")}
PLAIN = re.compile(r"""[^$<'"\\`}/]+""")
MAX_NESTING = 50  # some four frames of the stack each
MAX_LENGTH = 16 * 2**20  # characters that variables may add to one text
NO_VARIABLES: Mapping[str, str] = {}


class WordError(ValueError):
    """A word cannot be read or expanded; the message says why, in lower case."""


class Lookups:
    """The names that an expansion asked for: those that the mapping had, and those it had not."""

    __slots__ = ("found", "missing")

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.missing: set[str] = set()


def expand(word: str, env: Mapping[str, str], escape: str = "\\", *, lookups: Lookups | None = None) -> str:
    """The word with variables filled in, quotes and escapes taken off. Raises WordError."""
    if is_plain(word, escape):
        return word
    return _Lexer(word, env, escape, lookups).read()


def expand_words(
    word: str, env: Mapping[str, str], escape: str = "\\", *, lookups: Lookups | None = None
) -> list[str]:
    """As `expand`, parted at unquoted white space, that of variables too; empty words are dropped."""
    parts = _Parts()
    _Lexer(word, env, escape, lookups).read(parts)
    return parts.finish()


def expand_text(
    text: str, env: Mapping[str, str], escape: str = "\\", *, lookups: Lookups | None = None
) -> str:
    """The text with variables filled in, escapes taken off and quotes left alone. Raises WordError."""
    if is_plain(text, escape):
        return text
    return _Lexer(text, env, escape, lookups, quotes="").read()


def split_raw(line: str) -> list[str]:
    """The words of a line as a shell parts them, as they are written; [] where a quote stays open.

    `<<` and the blanks behind it are one with what follows. The escape is always the backslash.
    """
    parts = _Parts()
    try:
        _Lexer(line, NO_VARIABLES, "\\", None, keep=True).read(parts)
    except WordError:
        return []
    return parts.finish()


def unquote(word: str) -> list[str]:
    """The words in a heredoc's delimiter, quotes and escapes taken off, variables as written.

    Raises WordError where a quote stays open.
    """
    parts = _Parts()
    _Lexer(word, NO_VARIABLES, "\\", None, keep_unset=True).read(parts)
    return parts.finish()


def is_plain(text: str, escape: str) -> bool:
    """Whether a text means what it says, whatever the variables are."""
    return MARKED[escape].search(text) is None


def _valid(text: str) -> str:
    return text if text.isascii() else NOT_UTF8.sub("\ufffd", text)


class _Parts:
    """Words as they are gathered: blanks end one, but not those that were quoted."""

    __slots__ = ("open", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.open: list[str] = []

    def add(self, text: str) -> None:
        for char in text:
            if char not in SPACE:
                self.open.append(char)
            else:
                self.finish()

    def add_quoted(self, text: str) -> None:
        self.open.append(text)

    def finish(self) -> list[str]:
        if word := "".join(self.open):
            self.words.append(word)
        self.open.clear()
        return self.words


class _Lexer:
    """One reading of one text. `keep`: quotes, escapes and unset variables stay as they are written."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        lookups: Lookups | None,
        *,
        quotes: str = "'\"",
        keep: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self.text = _valid(text).removeprefix("\ufeff")
        self.at = 0
        self.env = env
        self.escape = escape
        self.lookups = lookups
        self.quotes = quotes
        self.keep_quotes = keep
        self.keep_escapes = keep
        self.keep_unset = keep or keep_unset
        self.depth = 0
        self.added = 0

    def read(self, parts: _Parts | None = None) -> str:
        return self._until("", keep_escapes=self.keep_escapes, parts=parts)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        return char

    def _until(self, stop: str, *, keep_escapes: bool, parts: _Parts | None = None) -> str:
        """Read on behind an unquoted `stop`, or to the end where there is none."""
        outer, self.keep_escapes = self.keep_escapes, keep_escapes
        out: list[str] = []
        while char := self._peek():
            if char == stop:
                self.at += 1
                break
            if char == "$":
                piece = self._variable()
            elif char == "<" and parts is not None:
                piece = self._arrows()
            elif char in self.quotes:
                piece = self._single_quoted() if char == "'" else self._double_quoted()
            elif char == self.escape:
                piece = self._escaped()
            else:
                piece = self._plain() if parts is None else self._next()
            out.append(piece)
            if parts is not None:
                plain = char == "$" or not (char in "<'\"" or char == self.escape)
                parts.add(piece) if plain else parts.add_quoted(piece)
        else:
            if stop:
                raise WordError(f"no {stop!r} ends the substitution")
        self.keep_escapes = outer
        return "".join(out)

    def _plain(self) -> str:
        """A run of characters that nothing treats specially, or one that something else would."""
        run = PLAIN.match(self.text, self.at)
        if run is None or self.escape in run[0]:
            return self._next()
        self.at = run.end()
        return run[0]

    def _escaped(self) -> str:
        mark = self._next()
        return (mark if self.keep_escapes else "") + self._next()

    def _arrows(self) -> str:
        start = self.at
        self.at += 1
        if self._peek() == "<":
            self.at += 1
            while self._peek() in ("\t", "\r", " "):
                self.at += 1
        return self.text[start : self.at]

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise WordError("a single quote is not closed")
        start, self.at = self.at, end + 1
        return self.text[start : end + 1] if self.keep_quotes else self.text[start + 1 : end]

    def _double_quoted(self) -> str:
        mark = '"' if self.keep_quotes else ""
        out = [mark]
        self.at += 1
        while char := self._peek():
            if char == '"':
                self.at += 1
                out.append(mark)
                return "".join(out)
            if char == "$":
                out.append(self._variable())
                continue
            self.at += 1
            if char == self.escape:
                if self.keep_escapes:
                    out.append(char)
                following = self._peek()
                if not following:
                    break
                if following in ('"', "$", self.escape):
                    char = self._next()
            out.append(char)
        raise WordError("a double quote is not closed")

    def _variable(self) -> str:
        """`$name` or `${name…}`; the `$` is next."""
        self.at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._look_up(name)
            return f"${name}" if value is None and self.keep_unset else value or ""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise WordError(f"substitutions are nested more than {MAX_NESTING} deep")
        self.at += 1
        value = self._braced()
        self.depth -= 1
        return value

    def _name(self) -> str:
        start = self.at
        first = self._peek()
        if first in SPECIAL_NAMES:
            self.at += 1
        elif first.isdecimal():
            while self._peek().isdecimal():
                self.at += 1
        else:
            while (char := self._peek()) == "_" or char.isalpha() or char.isdecimal():
                self.at += 1
        return self.text[start : self.at]

    def _look_up(self, name: str) -> str | None:
        value = self.env.get(name)
        if self.lookups is not None:
            (self.lookups.missing if value is None else self.lookups.found).add(name)
        self._grow(len(value or ""))
        return value

    def _grow(self, length: int) -> None:
        self.added += length
        if self.added > MAX_LENGTH:
            raise WordError(f"variables make it longer than {MAX_LENGTH} characters")

    def _braced(self) -> str:
        """The inside of `${…}`, behind the brace."""
        if self._peek() in ("{", "}", ":"):
            raise WordError("bad substitution")
        start = self.at
        name = self._name()
        modifier = self._next()
        if modifier == "}":
            value = self._look_up(name)
            return f"${{{name}}}" if value is None and self.keep_unset else value or ""
        if modifier == "/":
            return self._replaced(name)
        colon = modifier == ":"
        if colon:
            modifier = self._next()
        if modifier in ("#", "%") and not colon:
            return self._trimmed(name, modifier)
        if not modifier:
            raise WordError(f"no '}}' ends ${{{self.text[start:]}")
        if modifier not in "-+?" and (not colon or modifier in "#%"):
            raise WordError(f"{':' if colon else ''}{modifier} is no modifier of a substitution")
        return self._chosen(name, modifier, colon=colon)

    def _chosen(self, name: str, modifier: str, *, colon: bool) -> str:
        """`${name-word}`, `${name+word}`, `${name?word}`, and the same with a colon.

        Behind a colon a modifier that is none is one all the same, until it is known that the name is set.
        """
        word = self._until("}", keep_escapes=False)
        value = self._look_up(name)
        if value is None and self.keep_unset:
            return f"${{{name}{':' if colon else ''}{modifier}{word}}}"
        filled = value is not None and not (colon and value == "")
        if modifier == "-":
            return value if filled and value is not None else word
        if modifier == "+":
            return word if filled else ""
        if modifier != "?":
            raise WordError(f":{modifier} is no modifier of a substitution")
        if filled and value is not None:
            return value
        state = "unset" if value is None else "empty"
        raise WordError(f"{name}: {word or f'must not be {state}'}")

    def _trimmed(self, name: str, modifier: str) -> str:
        """`${name#pattern}` and `${name%pattern}`; doubled, they take the longest match."""
        word = self._until("}", keep_escapes=True)
        value = self._look_up(name)
        if value is None and self.keep_unset:
            return f"${{{name}{modifier}{word}}}"
        pattern = word.removeprefix(modifier)
        cut = patterns.cut_prefix if modifier == "#" else patterns.cut_suffix
        try:
            return cut(value or "", pattern, longest=len(pattern) < len(word))
        except patterns.PatternError as error:
            raise WordError(str(error)) from error

    def _replaced(self, name: str) -> str:
        """`${name/pattern/new}`, and with two slashes every match."""
        every = self._peek() == "/"
        if every:
            self.at += 1
        pattern = self._until("/", keep_escapes=True)
        new = self._until("}", keep_escapes=True)
        value = self._look_up(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{new}}}"
        try:
            pieces = patterns.part(value or "", pattern, every=every)
        except patterns.PatternError as error:
            raise WordError(str(error)) from error
        self._grow(len(new) * len(pieces))
        return new.join(pieces)
