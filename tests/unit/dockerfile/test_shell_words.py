"""Quotes, escapes and variables as docker's word lexer reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile import words
from builder.dockerfile.words import Lookups, WordError, expand, expand_text, expand_words

ENV = {"A": "a", "TWO": "one two", "EMPTY": "", "FILE": "abcabc.tar.gz", "größe": "12", "1": "first"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A", "a"),
        ("${A}b", "ab"),
        ("$Ab", ""),
        ("$A.b$", "a.b$"),
        ("$größe", "12"),
        ("$12", ""),
        ("$1x", "firstx"),
        ("$@|$?|$$|$!", "|||"),
        ("a\"b c\"'d e'f\\ g", "ab cd ef g"),
        ("'$A \\'", "$A \\"),
        ('"$A \\$A \\" \\\\ \\x"', 'a $A " \\ \\x'),
        ("\\$A", "$A"),
        ("trailing\\", "trailing"),
        ("<<EOF", "<<EOF"),
        ("\ufeff$A", "a"),
        ("x\udcff\udcfey", "x\ufffd\ufffdy"),
    ],
)
def test_quotes_escapes_and_plain_variables(word: str, expected: str) -> None:
    assert expand(word, ENV) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("${EMPTY:-x}${EMPTY-x}${NO:-x}${NO-x}${A:-x}", "xxxa"),
        ("${EMPTY:+x}|${EMPTY+x}|${NO+x}|${A:+x}", "|x||x"),
        ("${A?m}${EMPTY?m}${A:?m}", "aa"),
        ("${NO:-${EMPTY:-deep $A}}", "deep a"),
        ("${NO:-'a b'\"$A\"}", "a ba"),
        ("${NO:-\\}}", "}"),
        ("${FILE#a*c}|${FILE##a*c}", "abc.tar.gz|.tar.gz"),
        ("${FILE%.*}|${FILE%%.*}", "abcabc.tar|abcabc"),
        ("${FILE#?}|${FILE%z?}|${FILE#b}", "bcabc.tar.gz|abcabc.tar.gz|abcabc.tar.gz"),
        ("${FILE/abc/X}|${FILE//abc/X}|${FILE//abc/}", "Xabc.tar.gz|XX.tar.gz|.tar.gz"),
        ("${FILE/b*b/-}|${FILE//?/-}", "a-c.tar.gz|-------------"),
        ("${NO/a/b}|${NO#a}", "|"),
    ],
)
def test_modifiers(word: str, expected: str) -> None:
    assert expand(word, ENV) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${A", "ends"),
        ("${}", "bad substitution"),
        ("${A!x}", "! is no modifier"),
        ("${A:#x}", ":# is no modifier"),
        ("${A:-x", "ends"),
        ("${A/x}", "ends"),
        ('"open', "double quote"),
        ("it's", "single quote"),
        ("${NO?say it}", "NO: say it"),
        ("${NO?}", "NO: must not be unset"),
        ("${EMPTY:?}", "EMPTY: must not be empty"),
        ("${A:-${B!}}", "no modifier"),
        ("${FILE#\\x}", "invalid escape"),
    ],
)
def test_what_cannot_be_read_says_why(word: str, message: str) -> None:
    with pytest.raises(WordError, match=message.replace("$", r"\$")):
        expand(word, ENV)


def test_the_backtick_can_be_the_escape_character() -> None:
    assert expand("C:\\dir`$A`` $A", ENV, "`") == "C:\\dir$A` a"


def test_words_are_parted_at_blanks_that_are_not_quoted() -> None:
    assert expand_words("80  $TWO \"$TWO\" '' x\u00a0y ${NO}", ENV) == [
        "80",
        "one",
        "two",
        "one two",
        "x",
        "y",
    ]


def test_a_nested_default_keeps_what_stands_before_it_in_the_word() -> None:
    assert expand_words("80${NO:-80}/tcp", ENV) == ["8080/tcp"]


def test_text_keeps_its_quotes_and_loses_its_escapes() -> None:
    assert expand_text('it\'s "$A" \\$A \\\\ \\n\n', ENV) == 'it\'s "a" $A \\ n\n'


def test_lookups_name_what_was_found_and_what_was_not() -> None:
    lookups = Lookups()

    expand("$A ${NO:-$TWO} '$QUOTED'", ENV, lookups=lookups)

    assert lookups.found == {"A", "TWO"}
    assert lookups.missing == {"NO"}


def test_raw_words_lose_nothing() -> None:
    line = "cat <<'A B' \\<<C \"x <<D\" << E $X ${Y:-z w} ${V}"
    assert words.split_raw(line) == [
        "cat", "<<'A B'", "\\<<C", '"x <<D"', "<< E", "$X", "${Y:-z", "w}", "${V}",
    ]  # fmt: skip


def test_raw_words_of_a_line_with_an_open_quote_are_none() -> None:
    assert words.split_raw("echo it's <<EOF") == []


@pytest.mark.parametrize("depth", [words.MAX_NESTING + 1, 100_000])
def test_deep_nesting_is_refused_and_not_a_crash(depth: int) -> None:
    with pytest.raises(WordError, match="nested more than"):
        expand("${a:-" * depth + "}" * depth, {})


def test_nesting_that_people_write_is_fine() -> None:
    assert expand("${a:-" * 20 + "x" + "}" * 20, {}) == "x"


@pytest.mark.parametrize("word", ["$A$A$A$A$A", "${A//?/${A}}", "${N:-$A$A$A}"])
def test_values_cannot_grow_without_bound(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MAX_LENGTH", 1000)

    with pytest.raises(WordError, match="longer than"):
        expand(word, {"A": "x" * 400})


@given(st.text(st.characters(exclude_characters="$'\"\\\ufeff", exclude_categories=["Cs"])))
def test_text_without_marks_is_itself(text: str) -> None:
    assert expand(text, ENV) == text
    assert expand_text(text, ENV) == text


@given(st.text(st.characters(exclude_characters="'\ufeff", exclude_categories=["Cs"])))
def test_single_quotes_keep_all_as_it_is(text: str) -> None:
    assert expand(f"'{text}'", ENV) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaping_each_character_gives_it_back(text: str) -> None:
    assert expand("".join(f"\\{char}" for char in text), ENV) == text


@given(st.text(st.sampled_from("$ {}'\"\\`<ab:-+?#%/*\n=")), st.sampled_from("\\`"))
def test_any_text_gives_a_result_or_a_word_error(text: str, escape: str) -> None:
    for expander in (expand, expand_words, expand_text):
        with contextlib.suppress(WordError):
            expander(text, ENV, escape)
    words.split_raw(text)
