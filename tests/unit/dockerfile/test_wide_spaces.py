"""Spaces that only Unicode knows: they part pairs and surround arguments, but are characters of words."""

from __future__ import annotations

import pytest

from builder.dockerfile import ast
from builder.dockerfile.parser import parse
from builder.errors import DockerfileError
from builder.text import SourceText


def one(line: str) -> ast.AnyInstruction:
    return parse(SourceText("Dockerfile", f"FROM a\n{line}\n")).instructions[1]


def test_they_are_dropped_behind_the_keyword_and_the_flags() -> None:
    copy = one("COPY \u00a0 --link \u2003a b \u3000")
    run = one("RUN \u00a0x")

    assert isinstance(copy, ast.Copy)
    assert (copy.flag("link"), copy.sources, copy.dest) == ("", ("a",), "b")
    assert isinstance(run, ast.Run)
    assert run.command.words == ("x",)


def test_they_are_dropped_before_a_keyword_that_a_continuation_begins() -> None:
    cmd = one("\\\n\u00a0CMD  make")

    assert isinstance(cmd, ast.Cmd)
    assert cmd.command.words == ("make",)


def test_they_are_characters_of_the_words_behind_the_first() -> None:
    copy = one("COPY a \u00a0b\u2003c \u3000 /d/")

    assert isinstance(copy, ast.Copy)
    assert copy.sources == ("a", "\u00a0b\u2003c", "\u3000")


def test_they_part_pairs() -> None:
    env = one('ENV a=1\u2003b="2\u2003"\u00a0 c=3')

    assert isinstance(env, ast.Env)
    assert [(pair.name, pair.value) for pair in env.pairs] == [("a", "1"), ("b", '"2\u2003"'), ("c", "3")]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [("ENV a \u2003 b", "a", "\u2003 b"), ("ENV a\u2003b c", "a\u2003b", "c")],
)
def test_an_env_of_the_old_form_keeps_them(line: str, name: str, value: str) -> None:
    env = one(line)

    assert isinstance(env, ast.Env)
    assert (env.pairs, env.legacy) == ((ast.Pair(name, value),), True)


def test_control_characters_that_python_takes_for_spaces_are_none() -> None:
    arg = one("ARG a\x1cb=c\x1fd")

    assert isinstance(arg, ast.Arg)
    assert arg.pairs == (ast.Pair("a\x1cb", "c\x1fd"),)


def test_a_flag_goes_on_over_them() -> None:
    with pytest.raises(DockerfileError) as caught:
        one("COPY --link\u2003a b c")
    assert caught.value.code == "unknown-flag"
