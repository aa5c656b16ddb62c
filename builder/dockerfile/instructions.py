"""The parse tree of one line to its value in the syntax tree, and the forms no grammar can refuse. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from builder.dockerfile import arrays, ast
from builder.dockerfile.automaton import Token
from builder.dockerfile.blanks import SPACE
from builder.dockerfile.heredocs import is_marker
from builder.errors import DockerfileError

STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
ONBUILD = re.compile(r"ONBUILD\s*", re.IGNORECASE | re.ASCII)
UNTRIGGERED = frozenset({"ONBUILD", "FROM", "MAINTAINER"})


class Form:
    """What a line was found to be: its keyword, its flags and its words, as tokens of the grammar.

    `is_array`: the words are one JSON array; `texts` are they as written, those of an array decoded.
    """

    __slots__ = ("flags", "is_array", "keyword", "texts", "words")

    def __init__(self, keyword: str, tokens: list[Token]) -> None:
        self.keyword = keyword
        self.flags = [token for token in tokens if token.kind == "FLAG"]
        self.words = tokens[len(self.flags) :]
        self.is_array = bool(self.words) and self.words[0].kind == "ARRAY"
        self.texts: tuple[str, ...] = (
            arrays.decode(self.words[0].text)
            if self.is_array
            else tuple([token.text for token in self.words])
        )

    def command(self) -> ast.Command:
        """The words as a command; none at all are an empty text for the shell."""
        return ast.Command(self.texts or ("",) * (not self.is_array), shell=not self.is_array)


def build(form: Form, escape: str, line: str, common: dict[str, Any]) -> ast.AnyInstruction:
    """The instruction. `common` are the fields that all have; `line` is the whole, for ONBUILD.

    Raises DockerfileError without a place.
    """
    words = form.texts
    match form.keyword:
        case "FROM":
            return ast.From(image=words[0], name=_stage_name(words[1:]), **common)
        case "RUN":
            return ast.Run(command=form.command(), **common)
        case "CMD":
            return ast.Cmd(command=form.command(), **common)
        case "ENTRYPOINT":
            return ast.Entrypoint(command=form.command(), **common)
        case "HEALTHCHECK":
            return ast.Healthcheck(command=_check_command(form), **common)
        case "SHELL":
            return ast.Shell(words=_at_least(1, form), **common)
        case "COPY":
            return ast.Copy(sources=words[:-1], dest=_destination(form), **common)
        case "ADD":
            return ast.Add(sources=words[:-1], dest=_destination(form), **common)
        case "VOLUME":
            return ast.Volume(paths=_volumes(form), **common)
        case "EXPOSE":
            return ast.Expose(ports=words, **common)
        case "ENV":
            return ast.Env(pairs=_pairs(form, escape), legacy=form.words[0].kind == "NAME", **common)
        case "LABEL":
            return ast.Label(pairs=_pairs(form, escape), legacy=form.words[0].kind == "NAME", **common)
        case "ARG":
            return ast.Arg(pairs=tuple(_argument(word) for word in _whole_words(form, escape)), **common)
        case "ONBUILD":
            return ast.Onbuild(trigger=trigger_text(line, common["heredocs"]), **common)
        case _:
            return _build_text(form.keyword, words[0], common)


def _build_text(keyword: str, text: str, common: dict[str, Any]) -> ast.AnyInstruction:
    """Those that take the rest of the line as it is."""
    match keyword:
        case "USER":
            return ast.User(user=text, **common)
        case "WORKDIR":
            return ast.Workdir(path=text, **common)
        case "STOPSIGNAL":
            return ast.Stopsignal(signal=text, **common)
        case "MAINTAINER":
            return ast.Maintainer(name=text, **common)
    raise AssertionError(keyword)


def trigger_text(line: str, heredocs: Sequence[ast.Heredoc]) -> str:
    """What an image keeps of an ONBUILD line: the text behind the keyword, and heredocs below it."""
    text = line.lstrip(SPACE)
    if keyword := ONBUILD.match(text):
        text = text[keyword.end() :]
    return text + "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in heredocs)


def check_trigger(keyword: str) -> None:
    """Raise DockerfileError, without a place, for what ONBUILD cannot trigger."""
    if keyword in UNTRIGGERED:
        raise DockerfileError(f"ONBUILD cannot trigger {keyword}", code="bad-trigger")


def _stage_name(words: tuple[str, ...]) -> str | None:
    if not words:
        return None
    name = words[0].lower()
    if not STAGE_NAME.fullmatch(name):
        raise DockerfileError(
            f"{words[0]!r} is no name for a stage",
            code="bad-stage-name",
            hint="it starts with a letter; digits, dots, dashes and underscores may follow",
        )
    return name


def _at_least(count: int, form: Form) -> tuple[str, ...]:
    words = form.texts
    if len(words) < count:
        message = f"{form.keyword} needs at least {'two words' if count > 1 else 'one word'}"
        raise DockerfileError(message, code="incomplete")
    return words


def _check_command(form: Form) -> ast.Command | None:
    if form.words[0].kind == "NO_CHECK":
        return None
    _at_least(1, form)
    return form.command()


def _destination(form: Form) -> str:
    dest = _at_least(2, form)[-1]
    if is_marker(dest):
        raise DockerfileError(
            f"the destination of {form.keyword} cannot be a heredoc", code="bad-destination"
        )
    return dest


def _volumes(form: Form) -> tuple[str, ...]:
    paths = tuple(path.strip(SPACE) for path in _at_least(1, form))
    if "" in paths:
        raise DockerfileError("a path of VOLUME is empty", code="empty-word")
    return paths


def _pairs(form: Form, escape: str) -> tuple[ast.Pair, ...]:
    if form.words[0].kind == "NAME":
        return (ast.Pair(form.words[0].text, form.words[1].text),)
    parted = [word.partition("=") for word in _whole_words(form, escape)]
    for word, equals, _ in parted:
        if not equals:
            raise DockerfileError(
                f"there is no = in {word!r}", code="no-equals", hint=f"{form.keyword} takes NAME=value pairs"
            )
    return tuple(ast.Pair(_named(name, form.keyword), value) for name, _, value in parted)


def _argument(word: str) -> ast.Pair:
    name, equals, value = word.partition("=")
    return ast.Pair(_named(name, "ARG") if equals else name, value if equals else None)


def _named(name: str, keyword: str) -> str:
    if not name:
        raise DockerfileError(f"a name of {keyword} is empty", code="empty-word")
    return name


def _whole_words(form: Form, escape: str) -> list[str]:
    """The words, without an escape character at the very end that has nothing to escape."""
    words = list(form.texts)
    last = words.pop()
    loose = (len(last) - len(last.rstrip(escape))) % 2
    last = last[: len(last) - loose]
    if not (words or last):
        raise DockerfileError(f"{form.keyword} needs at least one word", code="incomplete")
    return [*words, last] if last else words
