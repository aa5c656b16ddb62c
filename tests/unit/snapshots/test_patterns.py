"""Path patterns as Go and moby/patternmatcher read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.snapshots.patterns import BadPattern, Patterns, clean, glob, has_wildcards


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "d/a.txt", False),
        ("*", ".hidden", True),
        ("a*b*c", "axbxbc", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("f[a-c1].txt", "fb.txt", True),
        ("f[a-c1].txt", "f2.txt", False),
        ("f[^a].txt", "fb.txt", True),
        ("f[^a].txt", "f.txt", False),
        ("f[!a].txt", "f!.txt", True),
        ("arr[[]0]", "arr[0]", True),
        ("[\\]]", "]", True),
        ("[z-a]", "b", False),
        ("a\\*b*", "a*bc", True),
        ("a\\*b*", "axbc", False),
        ("src/**/x", "src/a/x", True),
        ("src/**/x", "src/a/b/x", False),
        ("src/**/x", "src/x", False),
        ("d/f", "d/f", True),
        ("ab", "ab\n", False),
        ("*é*", "x\u00e9y", True),
        ("a+(b)", "a+(b)", True),
        ("*b*ab", "abcab", True),
    ],
)
def test_glob_matches_whole_paths(pattern: str, path: str, matches: bool) -> None:
    assert (glob(pattern).match(path) is not None) is matches


@pytest.mark.parametrize("pattern", ["a[", "[]a]", "[a-]", "a\\", "[", "[-a]", "[a"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        glob(pattern)
    with pytest.raises(BadPattern):
        Patterns([pattern])


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (["*.txt"], ["a.txt", "a.txt/below"], ["d/a.txt"]),
        (["**/*.txt"], ["a.txt", "x/y/a.txt"], ["a.md"]),
        (["sub"], ["sub", "sub/a/b"], ["subx", "a/sub"]),
        (["top/inner/"], ["top/inner", "top/inner/c"], ["top", "top/e"]),
        (["d/**"], ["d/a", "d/a/b"], ["d"]),
        (["**"], ["a", "a/b"], []),
        (["**/d"], ["d", "a/d", "a/d/x"], ["ad"]),
        (["**.o"], ["a.o", "x/a.o"], ["a.c"]),
        (["a/**/z"], ["a/z", "a/b/c/z"], ["az", "b/a/z"]),
        (["**/a*b/**/z"], ["q/aab/z", "axb/c/z/y"], ["ab"]),
        (["*", "!keep.txt"], ["a", "sub", "sub/keep.txt"], ["keep.txt"]),
        (["d", "!d/keep"], ["d", "d/a"], ["d/keep", "d/keep/x"]),
        (["!d", "d"], ["d"], ["e"]),
        (["a", "b", "c?"], ["a", "b/x", "cx"], ["d", "c"]),
        ([" a ", ""], ["a"], ["b"]),
        ([], [], ["a"]),
    ],
)
def test_a_list_decides_by_its_last_pattern_and_for_all_below(
    patterns: list[str], yes: list[str], no: list[str]
) -> None:
    matcher = Patterns(patterns)

    assert [path for path in yes if not matcher.matches(path)] == []
    assert [path for path in no if matcher.matches(path)] == []


def test_a_range_that_runs_backward_is_refused_in_a_list_only() -> None:
    assert glob("[z-a]").match("z") is None
    with pytest.raises(BadPattern):
        Patterns(["a/[z-a]"])


def test_a_lone_exclamation_mark_is_refused() -> None:
    with pytest.raises(BadPattern):
        Patterns(["!"])


@pytest.mark.hostile(".dockerignore/patterns")
def test_many_stars_take_no_time() -> None:
    name = "a" * 250

    assert glob("*a" * 40 + "b").match(name) is None
    assert not Patterns(["**/" + "*a" * 40 + "b"]).matches(f"{name}/{name}/{name}")


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("a/../b", "b"), ("/..", "/"), ("../a", "../a"), ("", "."), ("a//./b/", "a/b"), ("/a/../../b", "/b")],
)
def test_clean_is_by_the_text_alone(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


def test_an_escaped_wildcard_makes_no_pattern() -> None:
    assert has_wildcards("a*")
    assert has_wildcards("\\\\[")
    assert not has_wildcards("a\\*b")


def _slow_match(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "*":
        rest = pattern.lstrip("*")
        return any(_slow_match(rest, path[i:]) for i in range(len(path) + 1) if "/" not in path[:i])
    if not path:
        return False
    fits = path[0] != "/" if pattern[0] == "?" else pattern[0] == path[0]
    return fits and _slow_match(pattern[1:], path[1:])


@given(st.text("ab/*?", max_size=10), st.text("ab/", max_size=12))
def test_glob_agrees_with_plain_backtracking(pattern: str, path: str) -> None:
    assert (glob(pattern).match(path) is not None) == _slow_match(pattern, path)
