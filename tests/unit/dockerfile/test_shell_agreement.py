"""On the forms that both know, `/bin/sh` expands a word as a Dockerfile does."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile import words

SHELL = "/bin/sh"
pytestmark = pytest.mark.skipif(not os.path.exists(SHELL), reason="there is no /bin/sh")

VALUES = st.text(alphabet="ab/.-c", max_size=6)  # of ASCII: to dash, ? is one byte of a character
NAMES = st.sampled_from(["set", "empty", "unset", "long_name1"])
LITERAL = st.text(alphabet="ab/.-_,:é", min_size=1, max_size=4)


def braced(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    chosen = st.builds(
        lambda name, form, word: f"${{{name}{form}{word}}}",
        NAMES,
        st.sampled_from([":-", "-", ":+", "+"]),
        st.lists(inner, max_size=2).map("".join),
    )
    return chosen | inner


# An escaped letter within braces is left out: a Dockerfile reads it as if no quotes were around it.
# Words stand in double quotes, so that no wildcard is a file and no blank parts them.
PATTERN = st.text(alphabet="ab/.-*?", min_size=1, max_size=4)
PLAIN = (
    LITERAL
    | NAMES.map(lambda name: f"${{{name}}}")
    | NAMES.map(lambda name: f"${name}/")
    | st.builds(
        lambda name, form, word: f"${{{name}{form}{word}}}",
        NAMES,
        st.sampled_from(["#", "##", "%", "%%"]),
        PATTERN,
    )
    | st.sampled_from(["\\$set", '\\"', "\\\\"])
)
NESTED = st.recursive(PLAIN, braced, max_leaves=6)
QUOTED = st.lists(NESTED, min_size=1, max_size=4).map(lambda parts: f'"{"".join(parts)}"')
SINGLE = st.text(alphabet='ab$\\{}"', max_size=6).map(lambda text: f"'{text}'")
WORDS = st.lists(QUOTED | SINGLE, min_size=1, max_size=3).map("".join)
CASES = st.lists(st.tuples(WORDS, VALUES), min_size=20, max_size=40)


def asked(cases: list[tuple[str, str]]) -> list[str]:
    """What the shell makes of the words, each with its value of `set`; all in one process."""
    script = ["empty=", "unset unset", "long_name1=a/b.a/b"]
    for word, value in cases:
        script += [f"set={shlex.quote(value)}", f"printf '%s\\0' {word}"]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [SHELL, "-c", "\n".join(script)], check=True, stdout=subprocess.PIPE, env=environment, timeout=60
    )
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_words_come_out_as_the_shell_has_them(cases: list[tuple[str, str]]) -> None:
    variables = {"empty": "", "long_name1": "a/b.a/b"}

    ours = [words.expand(word, variables | {"set": value}) for word, value in cases]

    assert ours == asked(cases)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["?", ":?"])), min_size=1, max_size=4))
def test_what_must_be_set_is_missed_where_the_shell_misses_it(forms: list[tuple[str, str]]) -> None:
    word = "".join(f"${{{name}{form}must}}" for name, form in forms)
    script = f'set=a; empty=; unset unset; long_name1=b; printf %s "{word}"'
    variables = {"set": "a", "empty": "", "long_name1": "b"}

    done = subprocess.run([SHELL, "-c", script], check=False, capture_output=True, text=True, timeout=60)

    if done.returncode:
        with pytest.raises(words.WordError, match="must"):
            words.expand(f'"{word}"', variables)
    else:
        assert words.expand(f'"{word}"', variables) == done.stdout
