"""`.dockerignore`: examples, and the compiled expression against a matcher that tries everything."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.ignore import Ignore, parse
from builder.errors import DockerfileError


def excluded(text: str, *paths: str) -> list[str]:
    ignore = parse(text, ".dockerignore")
    return [path for path in paths if ignore.excludes(path)]


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        ("a", "a,a/b,a/b/c", "b,b/a,ab"),
        ("/a/", "a,a/b", "b/a"),
        ("*.o", "x.o,.o,d.o/x", "d/x.o,x.oo"),
        ("*/x", "a/x,b/x/y", "x,a/b/x"),
        ("a?c", "abc", "ac,a/c,abbc"),
        ("**/x", "x,a/x,a/b/x,a/x/y", "ax,a/xx"),
        ("**x", "x,ax,a/bx", "xa"),
        ("**/*.o", "x.o,a/x.o,a/b/x.o", "x.c"),
        ("a/**", "a/b,a/b/c", "a,ab"),
        ("a**", "a,ab,a/b", "b,ba"),
        ("a/**/z", "a/z,a/b/z,a/b/c/z", "az,a/bz,z"),
        ("a**/z", "az,a/z,ab/z,abc/d/z", "abz,z"),
        ("**", "a,a/b", ""),
        ("**/d/**", "d/a,x/d/a", "d,x/d"),
        ("[a-c]1", "a1,c1", "d1,a/1"),
        ("[^x]9", "a9", "x9,a/9"),
        ("k[^x]9", "k/9,ka9", "kx9"),
        ("*[/]9", "", "a/9"),
        ("\\d", "5", "d,55"),
        ("[\\d\\]a-c]", "5,],b", "d,\\"),
        ("\\D\\w*", "xy,x1z", "x,1x,xé"),
        ("[\\D7]\\W[^\\S_]", "a- ,7[\t,é\udcff ", "1- ,a_ ,a-x,a-_"),
        ("a\\n*", "a\nb", "an"),
        ("[[:alpha:]_]x", "ax,_x", "1x,:x"),
        ("[[:upper:]!]*", "Ab,!b", "b"),
        ("a.b+(c)|{d}$^", "a.b+(c)|{d}$^", "axb"),
        ("\\#a", "#a", "a"),
        ("\\*", "*", "a"),
        ("./a/../b//c", "b/c", "a,b"),
        ("/../b", "b", "a"),
        ("../a", "", "a,b"),
        (".", "", "a"),
        ("/", "", "a"),
        ("  a\t", "a", "b"),
        ("# a", "", "a,#,# a"),
        ("  #a", "#a", "a"),
        ("a b", "a b", "a"),
    ],
)
def test_a_pattern_leaves_out(pattern: str, out: str, kept: str) -> None:
    paths = [path for path in f"{out},{kept}".split(",") if path]
    assert excluded(pattern, *paths) == [path for path in out.split(",") if path]


def test_the_last_line_that_matches_counts() -> None:
    text = "*.md\n!README*.md\nREADME-secret.md\n"
    assert excluded(text, "a.md", "README.md", "README-secret.md") == ["a.md", "README-secret.md"]


def test_an_exception_takes_back_what_is_below_it() -> None:
    assert excluded("*\n!src\nsrc/**/*_t.go", "x", "src", "src/a.go", "src/c/d_t.go") == ["x", "src/c/d_t.go"]


def test_an_exception_for_a_folder_that_was_never_out_takes_nothing_back() -> None:
    assert excluded("**/*.pyc\n!src\n", "src", "src/a.pyc", "src/a.py") == ["src/a.pyc"]


def test_a_byte_order_mark_and_carriage_returns_do_not_count() -> None:
    assert excluded("\ufeffa\r\n\r\n# c\r\nb*\r\n!b2\r\n", "a", "b1", "b2") == ["a", "b1"]


def test_a_double_exclamation_mark_names_a_file_with_one() -> None:
    assert excluded("*a\n!!a", "a", "!a") == ["a"]


def test_which_names_the_line_that_decides() -> None:
    ignore = parse("# c\n*.md\n\n!a.md\n", ".dockerignore")

    assert [ignore.which(path) for path in ("x.md", "a.md", "x")] == [2, 4, 0]


def test_a_folder_is_pruned_where_nothing_below_it_can_come_back() -> None:
    ignore = parse("d\ne\nf\n!e/keep/x\n!f*/[ab]\n", ".dockerignore")

    folders = ["d", "d/x", "e", "e/keep", "e/other", "f", "g"]
    assert [folder for folder in folders if ignore.prunes(folder)] == ["d", "d/x", "e/other"]


def test_an_exception_above_the_pattern_does_not_stop_pruning() -> None:
    assert parse("!d/x\nd\n", "i").prunes("d")


def test_an_empty_file_is_false_and_leaves_nothing_out() -> None:
    ignore = parse("# nothing\n\n", "i")

    assert not ignore
    assert not ignore.excludes("a/b")
    assert not ignore.prunes("a")


@pytest.mark.parametrize(
    "line",
    [
        *("[", "[]", "[a", "[a-]", "[-a]", "[b-a]", "a\\", "!", "! ", "!/", "a**b**c**d**e"),
        *("f\\oo", "[\\o]", "\\é", "[[:alpha:]", "[a-\\d]", "a\rb", "\x00"),
    ],
)
def test_a_bad_pattern_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(f"a\n\n{line}\n", "sub/.dockerignore")

    assert caught.value.message.startswith("sub/.dockerignore:3: ")
    assert caught.value.location is not None
    assert caught.value.location.span.line == 3


@pytest.mark.hostile(".dockerignore/patterns")
def test_hostile_patterns_end_soon() -> None:
    text = "\n".join(
        ["*a" * 60 + "b", "**/a/" * 60 + "b", "a**a**a**b", "**/*a/" * 30 + "**b", "?*" * 80 + "b"]
    )
    assert excluded(text, "a" * 255, "a/" * 1000 + "c", "/".join(["a" * 200] * 10)) == []


@pytest.mark.hostile(".dockerignore/patterns")
def test_stars_next_to_names_do_not_double_a_pattern() -> None:
    """Each of them is tried both ways, so that a few are all there may be."""
    assert excluded("a**b**c**d", "a/b/c/d", "a/x") == ["a/b/c/d"]
    with pytest.raises(DockerfileError, match=r"more than 3 times \*\* next to a name"):
        excluded("a" + "**a" * 24, "a")


def test_a_cached_build_loads_little_for_it() -> None:
    code = (
        "import re, sys, __future__; before = set(sys.modules)\n"
        "import builder.dockerfile.ignore as i; i.parse('a', 'i')\n"
        "print(' '.join(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()

    own = [name for name in loaded if name.startswith("builder")]
    assert own
    assert set(loaded) - set(own) <= set(sys.builtin_module_names)  # those cost no reading of files


# The reference: each pattern tried on each path by plain recursion, states handed from folder to folder.


def match_here(pattern: str, path: str) -> bool:
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return True
        starts = [0, *(at + 1 for at, char in enumerate(path) if char == "/")]
        return any(match_here(rest, path[start:]) for start in starts)
    if not pattern:
        return not path
    if pattern[0] == "*":
        ends = range((path + "/").index("/") + 1)
        return any(match_here(pattern[1:], path[end:]) for end in ends)
    if pattern[0] == "?":
        return path[:1] not in ("", "/") and match_here(pattern[1:], path[1:])
    return path[:1] == pattern[0] and match_here(pattern[1:], path[1:])


def match_slowly(pattern: str, path: str) -> bool:
    end = pattern[2:]
    if pattern.startswith("**") and end and not end.startswith("/") and not set(end) & set("*?"):
        return path.endswith(end)
    return match_here(pattern, path)


def decide_slowly(ignore: Ignore, path: str) -> bool:
    held = [False] * len(ignore.patterns)
    out = False
    for end in [at for at, char in enumerate(path) if char == "/"] + [len(path)]:
        out = False
        for number, pattern in enumerate(ignore.patterns):
            if not held[number] and pattern.keeps == out:
                held[number] = match_slowly(pattern.text, path[:end])
            if held[number]:
                out = not pattern.keeps
    return out


PIECES = st.sampled_from(["a", "b", "ab", "/", "/", "*", "**", "**/", "/**", "?", "!"])
LINES = st.lists(st.lists(PIECES, min_size=1, max_size=5).map("".join), min_size=1, max_size=4)
NAMES = st.sampled_from(["a", "b", "ab", "ba", "abb", "!a"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=6)


@given(LINES, PATHS)
def test_the_expression_says_what_a_slow_matcher_says(lines: list[str], paths: list[str]) -> None:
    try:
        ignore = parse("\n".join(lines), "i")
    except DockerfileError:
        return

    assert [ignore.excludes(path) for path in paths] == [decide_slowly(ignore, path) for path in paths]


@given(LINES, PATHS)
def test_nothing_below_a_pruned_folder_is_kept(lines: list[str], paths: list[str]) -> None:
    try:
        ignore = parse("\n".join(lines), "i")
    except DockerfileError:
        return

    for path in paths:
        folders = [path[:at] for at, char in enumerate(path) if char == "/"]
        assert ignore.excludes(path) or not any(ignore.prunes(folder) for folder in folders)


@given(st.text(st.sampled_from("ab*?[]^-!\\/. \n#")))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        ignore = parse(text, "i")
    except DockerfileError:
        return
    assert ignore.excludes("a/b") or not ignore.prunes("a")
    assert ignore.which("a/b/a") > 0 or not ignore.excludes("a/b/a")
